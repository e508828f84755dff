//! The power is cut on a file system of the running kernel, twice, while it is used; then everything that anybody was told must be
//! so. Needs root: where that can't be had the test says so and is skipped, unless `LIKE_REQUIRE_MOUNTS=1` asks for it.
//!
//! ```text
//! cargo power-cut --cuts 50
//! ```

use std::io::Write;
use std::path::Path;
use std::process::Command;

use like_tests::process::{Ended, program, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_like-multicall");

#[test]
fn no_cut_of_a_real_file_system_breaks_a_promise() {
    let may_mount = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|may| may.success());
    if !may_mount || !Path::new("/dev/loop-control").exists() {
        return skip("a power cut", "no file system can be mounted here", "LIKE_REQUIRE_MOUNTS");
    }
    let seed = std::process::id().to_string();
    let mut command = program(Path::new(PROGRAM), "power-cut");
    let cut = Ended::of(command.args(["--file-system", "ext4", "--cuts", "2", "--seed", &seed]));
    // Past the harness's capture: what was tried is part of the result.
    let _ = writeln!(std::io::stderr(), "seed {seed}: {}", cut.stdout);
    cut.expect_code(0);
}
