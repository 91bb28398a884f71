//! Checks that need more than one value.
