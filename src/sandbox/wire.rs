//! Messages between the parent and init.
