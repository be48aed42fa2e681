// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fast a log is read, each step beside the one below it: finding lines, parsing every record's header, and
//! parsing our records' fields as well. Bytes a second; compare within one run.

use divan::{Bencher, counter::BytesCount};
use nstrail_audit::{Kind, NsidOp, Record};

fn main() {
    divan::main();
}

/// 10,000 containers as a kernel logs them: definition, SYSCALL, attribution, EOE, release.
fn log() -> Vec<u8> {
    let mut log = Vec::new();
    for number in 2_u64..10_002 {
        let stamp = format!("audit({}.{:03}:{number}): ", number / 1000, number % 1000);
        let list = "cgroup:4026531835,ipc:4026531839,mnt:4026531841,net:4026531840,pid:4026532177,\
                    pid_for_children:4026532177,time:4026531834,time_for_children:4026531834,user:4026531837,uts:4026531838";
        for (kind, body) in [
            (
                1340,
                format!(
                    "op=clone pid=7 tid=7 opid={number} flags=CLONE_NEWPID old-auditnsid=0x1 auditnsid={number:#x} ns={list} res=1"
                ),
            ),
            (
                1300,
                format!(
                    "arch=c000003e syscall=56 success=yes exit={number} a0=20000011 a1=0 a2=0 a3=0 items=0 ppid=1 pid=7 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm=\"init\" exe=\"/init\" key=(null)"
                ),
            ),
            (1341, format!("auditnsid={number:#x}")),
            (1320, String::new()),
            (1340, format!("op=release pid={number} tid={number} auditnsid={number:#x} res=1")),
        ] {
            nstrail_audit::record::raw_line(kind, format!("{stamp}{body}").as_bytes(), &mut log);
        }
    }
    log
}

fn lines(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    log.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

#[divan::bench]
fn find_lines(bencher: Bencher<'_, '_>) {
    let log = log();
    bencher
        .counter(BytesCount::of_slice(&log))
        .bench(|| memchr::memchr_iter(b'\n', divan::black_box(&log)).count());
}

#[divan::bench]
fn parse_headers(bencher: Bencher<'_, '_>) {
    let log = log();
    bencher
        .counter(BytesCount::of_slice(&log))
        .bench(|| lines(divan::black_box(&log)).filter(|line| Record::parse_line(line).is_ok()).count());
}

#[divan::bench]
fn parse_headers_and_our_fields(bencher: Bencher<'_, '_>) {
    let log = log();
    bencher.counter(BytesCount::of_slice(&log)).bench(|| {
        let records = lines(divan::black_box(&log)).filter_map(|line| Record::parse_line(line).ok());
        records
            .filter(|record| record.kind == Kind(1340))
            .filter(|record| NsidOp::parse(record.body).is_ok())
            .count()
    });
}
