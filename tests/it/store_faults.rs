//! A store that fails in every way that it can.
