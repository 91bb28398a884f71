//! One file for one machine.
