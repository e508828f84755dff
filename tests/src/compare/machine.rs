//! What the figures were taken on.

use std::fs;

/// The machine in a few words.
pub fn describe() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu_info = text("/proc/cpuinfo");
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let kernel = text("/proc/sys/kernel/osrelease");
    let load = text("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{cpus} x {}, Linux {}, {}, load {load} before",
        model.unwrap_or("CPU of unknown make").trim(),
        kernel.trim(),
        file_system()
    )
}

/// Where throwaway directories are: a file system in memory would make every sync free.
fn file_system() -> String {
    let directory = std::env::temp_dir();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let holds = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind) = (words.next()?, words.next()?);
        directory.starts_with(at).then(|| (at.len(), kind.to_owned()))
    });
    let kind = holds.max().map_or_else(|| "an unknown file system".to_owned(), |(_, kind)| kind);
    assert!(kind != "tmpfs", "{} is in memory: set TMPDIR to a directory on a disk", directory.display());
    kind
}
