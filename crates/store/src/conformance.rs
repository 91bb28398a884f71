//! Every promise of the contract, as one function each, run on both databases.
