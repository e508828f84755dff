//! File systems that can't hold what either side keeps: neither journal nor store may be on a network file system.

/// Network file systems that Linux mounts, by their magic numbers (statfs(2)): there `flock` may be local, emulated or leased, and
/// another host may write.
const NETWORK: [(u64, &str); 17] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "kafs"),
    (0x00c3_6400, "ceph"),
    (0x0116_1970, "gfs2"),
    (0x0bd0_0bd0, "lustre"),
    (0x7375_7245, "coda"),
    (0x7461_636f, "ocfs2"),
    (0x4750_4653, "gpfs"),
    (0x1983_0326, "beegfs"),
    (0x2003_0528, "orangefs"),
    (0x786f_4256, "vboxsf"),
    (0xbacb_acbc, "vmhgfs"),
];

/// The name of the network file system with this magic number, if it is one.
pub fn network(magic: u64) -> Option<&'static str> {
    NETWORK.iter().find(|(number, _)| *number == magic & 0xffff_ffff).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        // As statfs(2) lists them.
        let remote =
            [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x5346_414f, 0x00c3_6400, 0x0bd0_0bd0];
        assert!(remote.iter().all(|magic| network(*magic).is_some()));
        assert_eq!(network(0xffff_ffff_ff53_4d42), Some("cifs"), "where the kernel's number has a sign");
        let local = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1, 0xf2f5_2010];
        assert!(local.iter().all(|magic| network(*magic).is_none()));
    }
}
