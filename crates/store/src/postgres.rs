//! PostgreSQL, for many servers and agents.
