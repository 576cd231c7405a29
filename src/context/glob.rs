//! Go path patterns.
