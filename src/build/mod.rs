pub(crate) mod copy;
pub(crate) mod event;
