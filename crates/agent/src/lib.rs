//! The agent: holds one WebSocket to a server, watches directories, runs processes.
