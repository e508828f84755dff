#![no_main]
#![allow(missing_docs, dead_code)]

#[path = "../../tests/src/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::runs::runs(data));
