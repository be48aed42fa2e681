// SPDX-License-Identifier: MIT OR Apache-2.0
//! Record types: the kernel's numbers, and the names that auditd's raw format writes for them.
//!
//! auditd takes the names from audit userspace's `msg_typetab.h`; a number that is not there is written
//! `UNKNOWN[n]`, which is what becomes of 1340-1342 (CONTRACT.md, "Records").

use std::fmt;

/// A record type by its number (include/uapi/linux/audit.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(pub u16);

impl Kind {
    pub const USER: Self = Self(1005);
    pub const LOGIN: Self = Self(1006);
    pub const SYSCALL: Self = Self(1300);
    pub const PATH: Self = Self(1302);
    pub const CONFIG_CHANGE: Self = Self(1305);
    pub const CWD: Self = Self(1307);
    pub const EOE: Self = Self(1320);
    pub const NETFILTER_PKT: Self = Self(1324);
    pub const SECCOMP: Self = Self(1326);
    pub const PROCTITLE: Self = Self(1327);
    pub const BPF: Self = Self(1334);
    pub const EVENT_LISTENER: Self = Self(1335);
    pub const URINGOP: Self = Self(1336);
    /// `AUDIT_NSID_OP`.
    pub const NSID_OP: Self = Self(1340);
    /// `AUDIT_NSID`.
    pub const NSID: Self = Self(1341);
    /// `AUDIT_NETNS`.
    pub const NETNS: Self = Self(1342);
    pub const USER_LOGIN: Self = Self(1112);
    pub const ANOM_PROMISCUOUS: Self = Self(1700);
    pub const ANOM_ABEND: Self = Self(1701);
    pub const ANOM_LOGIN_FAILURES: Self = Self(2100);
    /// `AUDIT_KERNEL`.
    pub const KERNEL: Self = Self(2000);

    /// Whether this is a record that the contract defines.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::NSID_OP | Self::NSID | Self::NETNS)
    }

    /// auditd's name, if it has one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.binary_search_by_key(&self.0, |(number, _)| *number).ok().map(|index| NAMES[index].1)
    }

    /// The type of a name, or of `UNKNOWN[n]`.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        if let Some(rest) = name.strip_prefix(b"UNKNOWN[") {
            let digits = rest.strip_suffix(b"]")?;
            let number = crate::record::decimal(digits)?;
            return u16::try_from(number).ok().map(Self);
        }
        NAMES.iter().find(|(_, known)| known.as_bytes() == name).map(|(number, _)| Self(*number))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "UNKNOWN[{}]", self.0),
        }
    }
}

/// Numbers in rising order, with the names of audit userspace 3.1 (lib/msg_typetab.h).
const NAMES: &[(u16, &str)] = &[
    (1005, "USER"),
    (1006, "LOGIN"),
    (1100, "USER_AUTH"),
    (1101, "USER_ACCT"),
    (1102, "USER_MGMT"),
    (1103, "CRED_ACQ"),
    (1104, "CRED_DISP"),
    (1105, "USER_START"),
    (1106, "USER_END"),
    (1107, "USER_AVC"),
    (1108, "USER_CHAUTHTOK"),
    (1109, "USER_ERR"),
    (1110, "CRED_REFR"),
    (1111, "USYS_CONFIG"),
    (1112, "USER_LOGIN"),
    (1113, "USER_LOGOUT"),
    (1114, "ADD_USER"),
    (1115, "DEL_USER"),
    (1116, "ADD_GROUP"),
    (1117, "DEL_GROUP"),
    (1118, "DAC_CHECK"),
    (1119, "CHGRP_ID"),
    (1120, "TEST"),
    (1121, "TRUSTED_APP"),
    (1122, "USER_SELINUX_ERR"),
    (1123, "USER_CMD"),
    (1124, "USER_TTY"),
    (1125, "CHUSER_ID"),
    (1126, "GRP_AUTH"),
    (1127, "SYSTEM_BOOT"),
    (1128, "SYSTEM_SHUTDOWN"),
    (1129, "SYSTEM_RUNLEVEL"),
    (1130, "SERVICE_START"),
    (1131, "SERVICE_STOP"),
    (1132, "GRP_MGMT"),
    (1133, "GRP_CHAUTHTOK"),
    (1134, "MAC_CHECK"),
    (1135, "ACCT_LOCK"),
    (1136, "ACCT_UNLOCK"),
    (1137, "USER_DEVICE"),
    (1138, "SOFTWARE_UPDATE"),
    (1200, "DAEMON_START"),
    (1201, "DAEMON_END"),
    (1202, "DAEMON_ABORT"),
    (1203, "DAEMON_CONFIG"),
    (1204, "DAEMON_RECONFIG"),
    (1205, "DAEMON_ROTATE"),
    (1206, "DAEMON_RESUME"),
    (1207, "DAEMON_ACCEPT"),
    (1208, "DAEMON_CLOSE"),
    (1209, "DAEMON_ERR"),
    (1300, "SYSCALL"),
    (1302, "PATH"),
    (1303, "IPC"),
    (1304, "SOCKETCALL"),
    (1305, "CONFIG_CHANGE"),
    (1306, "SOCKADDR"),
    (1307, "CWD"),
    (1309, "EXECVE"),
    (1311, "IPC_SET_PERM"),
    (1312, "MQ_OPEN"),
    (1313, "MQ_SENDRECV"),
    (1314, "MQ_NOTIFY"),
    (1315, "MQ_GETSETATTR"),
    (1316, "KERNEL_OTHER"),
    (1317, "FD_PAIR"),
    (1318, "OBJ_PID"),
    (1319, "TTY"),
    (1320, "EOE"),
    (1321, "BPRM_FCAPS"),
    (1322, "CAPSET"),
    (1323, "MMAP"),
    (1324, "NETFILTER_PKT"),
    (1325, "NETFILTER_CFG"),
    (1326, "SECCOMP"),
    (1327, "PROCTITLE"),
    (1328, "FEATURE_CHANGE"),
    (1329, "REPLACE"),
    (1330, "KERN_MODULE"),
    (1331, "FANOTIFY"),
    (1332, "TIME_INJOFFSET"),
    (1333, "TIME_ADJNTPVAL"),
    (1334, "BPF"),
    (1335, "EVENT_LISTENER"),
    (1336, "URINGOP"),
    (1337, "OPENAT2"),
    (1338, "DM_CTRL"),
    (1339, "DM_EVENT"),
    (1400, "AVC"),
    (1401, "SELINUX_ERR"),
    (1402, "AVC_PATH"),
    (1403, "MAC_POLICY_LOAD"),
    (1404, "MAC_STATUS"),
    (1405, "MAC_CONFIG_CHANGE"),
    (1406, "MAC_UNLBL_ALLOW"),
    (1407, "MAC_CIPSOV4_ADD"),
    (1408, "MAC_CIPSOV4_DEL"),
    (1409, "MAC_MAP_ADD"),
    (1410, "MAC_MAP_DEL"),
    (1411, "MAC_IPSEC_ADDSA"),
    (1412, "MAC_IPSEC_DELSA"),
    (1413, "MAC_IPSEC_ADDSPD"),
    (1414, "MAC_IPSEC_DELSPD"),
    (1415, "MAC_IPSEC_EVENT"),
    (1416, "MAC_UNLBL_STCADD"),
    (1417, "MAC_UNLBL_STCDEL"),
    (1418, "MAC_CALIPSO_ADD"),
    (1419, "MAC_CALIPSO_DEL"),
    (1700, "ANOM_PROMISCUOUS"),
    (1701, "ANOM_ABEND"),
    (1702, "ANOM_LINK"),
    (1703, "ANOM_CREAT"),
    (1800, "INTEGRITY_DATA"),
    (1801, "INTEGRITY_METADATA"),
    (1802, "INTEGRITY_STATUS"),
    (1803, "INTEGRITY_HASH"),
    (1804, "INTEGRITY_PCR"),
    (1805, "INTEGRITY_RULE"),
    (1806, "INTEGRITY_EVM_XATTR"),
    (1807, "INTEGRITY_POLICY_RULE"),
    (2000, "KERNEL"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_and_stand_in_rising_order() {
        for pair in NAMES.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{pair:?}");
        }
        for number in 0..=u16::MAX {
            let kind = Kind(number);
            assert_eq!(Kind::from_name(kind.to_string().as_bytes()), Some(kind));
        }
    }

    #[test]
    fn our_records_have_no_name_yet() {
        assert_eq!(Kind::NSID_OP.to_string(), "UNKNOWN[1340]");
        assert_eq!(Kind::NSID.to_string(), "UNKNOWN[1341]");
        assert_eq!(Kind::NETNS.to_string(), "UNKNOWN[1342]");
    }

    #[test]
    fn a_number_that_is_none_is_no_type() {
        for name in [&b"UNKNOWN[]"[..], b"UNKNOWN[65536]", b"UNKNOWN[13", b"", b"syscall"] {
            assert_eq!(Kind::from_name(name), None);
        }
    }
}
