//! Durable directory watching: finds files, waits until they are complete, remembers what it has
//! reported. Usable alone; the agent is its one user here.
