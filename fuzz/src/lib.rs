//! The drivers of all fuzz targets, shared with the replay of the corpora in `tests/fuzz_corpora.rs`.

#[path = "../../tests/support/fuzz_drivers/mod.rs"]
pub mod drivers;
