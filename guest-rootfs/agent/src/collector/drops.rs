// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own count of what it could not put into a socket, from `/proc/net/netlink`.

/// `Drops` of the netlink socket with this inode number; `None` if it is not listed.
///
/// Columns: `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`.
#[must_use]
pub fn drops(table: &str, inode: u64) -> Option<u64> {
    table.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace().rev();
        let found: u64 = columns.next()?.parse().ok()?;
        let drops = columns.next()?.parse().ok()?;
        (found == inode).then_some(drops)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
000000003bd9d1cc 9   0          00000000 0        0        0     2        0        4
00000000ab4a6ebb 9   57         00000001 6144     0        0     2        12       1301
00000000c7d4df0c 9   4294959163 00000000 0        0        0     2        0        1302
";

    #[test]
    fn drops_are_found_by_inode() {
        assert_eq!(drops(TABLE, 1301), Some(12));
        assert_eq!(drops(TABLE, 1302), Some(0));
        assert_eq!(drops(TABLE, 1), None);
    }
}
