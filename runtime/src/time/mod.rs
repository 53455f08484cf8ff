//! Time.

#[cfg_attr(greenloom_loom, path = "clock_model.rs")]
pub(crate) mod clock;
