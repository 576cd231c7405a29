//! Processes, their namespaces and privileges.
