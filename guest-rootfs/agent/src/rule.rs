// SPDX-License-Identifier: MIT OR Apache-2.0
//! Audit rules, as bytes of `struct audit_rule_data` (include/uapi/linux/audit.h).

/// `AUDIT_MAX_FIELDS`.
const MAX_FIELDS: usize = 64;
/// `AUDIT_BITMASK_SIZE`.
const MASK_WORDS: usize = 64;
/// Length of the structure before its variable part.
const FIXED: usize = 4 * (3 + MASK_WORDS + 3 * MAX_FIELDS + 1);
/// `AUDIT_FILTERKEY`, the field of a rule's key.
const FILTER_KEY: u32 = 210;
/// `AUDIT_EQUAL`.
const EQUAL: u32 = 0x4000_0000;

/// The list that a rule stands in (`AUDIT_FILTER_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RuleList {
    Task = 1,
    Exit = 4,
    Exclude = 5,
    IoUring = 7,
}

/// What a rule does (`AUDIT_NEVER`, `AUDIT_ALWAYS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RuleAction {
    Never = 0,
    Always = 2,
}

/// The system calls (or io_uring operations) that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleCalls {
    All,
    /// By number; none for lists that know no calls.
    Only(Vec<u32>),
}

/// A field to compare, and what with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleField {
    /// `AUDIT_ARCH`, `AUDIT_MSGTYPE`, `AUDIT_PID`, ...
    pub field: u32,
    /// `AUDIT_EQUAL`, `AUDIT_NOT_EQUAL`, ...
    pub operator: u32,
    pub value: RuleValue,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleValue {
    Number(u32),
    /// For the fields whose value lies in the structure's variable part.
    Text(Vec<u8>),
}

/// A rule, as `auditctl -a LIST,ACTION -S CALL -F FIELD=VALUE -k KEY` would make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRule {
    pub list: RuleList,
    pub action: RuleAction,
    pub calls: RuleCalls,
    pub fields: Vec<RuleField>,
    pub key: Option<Vec<u8>>,
}

impl RuleField {
    /// `field = number`.
    #[must_use]
    pub const fn equal(field: u32, number: u32) -> Self {
        Self { field, operator: EQUAL, value: RuleValue::Number(number) }
    }
}

impl AuditRule {
    /// The bytes of `struct audit_rule_data`; `None` if the rule has more fields than one can hold, or a call that
    /// the mask has no bit for.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut mask = [0_u32; MASK_WORDS];
        match &self.calls {
            RuleCalls::All => mask.fill(u32::MAX),
            RuleCalls::Only(numbers) => {
                for number in numbers {
                    *mask.get_mut(*number as usize / 32)? |= 1 << (number % 32);
                }
            }
        }
        let key = self.key.as_ref().map(|key| RuleField {
            field: FILTER_KEY,
            operator: EQUAL,
            value: RuleValue::Text(key.clone()),
        });
        let (mut fields, mut values, mut operators) = ([0; MAX_FIELDS], [0; MAX_FIELDS], [0; MAX_FIELDS]);
        let mut text: Vec<u8> = Vec::new();
        let mut count = 0;
        for field in self.fields.iter().chain(key.as_ref()) {
            *fields.get_mut(count)? = field.field;
            operators[count] = field.operator;
            values[count] = match &field.value {
                RuleValue::Number(number) => *number,
                RuleValue::Text(bytes) => {
                    text.extend_from_slice(bytes);
                    u32::try_from(bytes.len()).ok()?
                }
            };
            count += 1;
        }
        let mut bytes = Vec::with_capacity(FIXED + text.len());
        let words = [self.list as u32, self.action as u32, u32::try_from(count).ok()?]
            .into_iter()
            .chain(mask)
            .chain(fields)
            .chain(values)
            .chain(operators)
            .chain([u32::try_from(text.len()).ok()?]);
        for word in words {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&text);
        Some(bytes)
    }
}

/// Rules by what they can do to a log: see `AuditFact::Rules`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCount {
    pub exclude: u32,
    pub task_never: u32,
    pub other: u32,
}

impl RuleCount {
    /// Counts a rule that `AUDIT_LIST_RULES` gave. Too few bytes for a rule count as `other`.
    pub fn add(&mut self, rule: &[u8]) {
        let word = |index: usize| -> u32 {
            rule.get(4 * index..4 * index + 4)
                .map_or(u32::MAX, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
        };
        match (word(0), word(1)) {
            (list, _) if list == RuleList::Exclude as u32 => self.exclude += 1,
            (list, action) if list == RuleList::Task as u32 && action == RuleAction::Never as u32 => {
                self.task_never += 1;
            }
            _ => self.other += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], index: usize) -> u32 {
        u32::from_ne_bytes(bytes[4 * index..4 * index + 4].try_into().unwrap())
    }

    #[test]
    fn a_rule_has_the_layout_of_audit_rule_data() {
        let rule = AuditRule {
            list: RuleList::Exit,
            action: RuleAction::Always,
            calls: RuleCalls::Only(vec![157, 33]),
            fields: vec![RuleField::equal(11, 0xC000_003E)],
            key: Some(b"nstrail-token-5".to_vec()),
        };
        let bytes = rule.encode().unwrap();
        assert_eq!(bytes.len(), 1040 + 15);
        assert_eq!((word(&bytes, 0), word(&bytes, 1), word(&bytes, 2)), (4, 2, 2));
        let mask = 3;
        assert_eq!(word(&bytes, mask + 157 / 32), 1 << (157 % 32));
        assert_eq!(word(&bytes, mask + 1), 1 << 1);
        let fields = mask + 64;
        assert_eq!((word(&bytes, fields), word(&bytes, fields + 1)), (11, 210));
        let values = fields + 64;
        assert_eq!((word(&bytes, values), word(&bytes, values + 1)), (0xC000_003E, 15));
        let operators = values + 64;
        assert_eq!((word(&bytes, operators), word(&bytes, operators + 1)), (EQUAL, EQUAL));
        assert_eq!(word(&bytes, operators + 64), 15);
        assert_eq!(&bytes[1040..], b"nstrail-token-5");
    }

    #[test]
    fn a_rule_that_does_not_fit_is_refused() {
        let mut rule = AuditRule {
            list: RuleList::Exclude,
            action: RuleAction::Never,
            calls: RuleCalls::All,
            fields: vec![RuleField::equal(12, 1300); MAX_FIELDS],
            key: None,
        };
        assert!(rule.encode().is_some());
        rule.key = Some(b"k".to_vec());
        assert_eq!(rule.encode(), None);
        rule.fields.clear();
        rule.calls = RuleCalls::Only(vec![32 * MASK_WORDS as u32]);
        assert_eq!(rule.encode(), None);
    }

    #[test]
    fn rules_that_can_hide_records_are_counted_apart() {
        let mut count = RuleCount::default();
        let mut add =
            |list: u32, action: u32| count.add(&[list.to_ne_bytes(), action.to_ne_bytes()].concat());
        add(5, 0);
        add(1, 0);
        add(1, 2);
        add(4, 0);
        count.add(b"");
        assert_eq!(count, RuleCount { exclude: 1, task_never: 1, other: 3 });
    }
}
