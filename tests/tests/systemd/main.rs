//! The units as they are shipped, with the real binaries, under a real systemd.
//!
//! Each test boots a [`machine`] of its own: a systemd as process 1 of its own namespaces, which takes half a second and
//! needs root. Where that can't be had the tests say so and are skipped, unless `LIKE_REQUIRE_SYSTEMD=1` asks for
//! them.

// What is expected here and does not come fails the test, as it should.
#![allow(clippy::expect_used)]

mod access;
mod activation;
mod crashes;
mod gateway;
mod machine;
mod operations;
mod quiet;
mod recovery;
mod stops;
