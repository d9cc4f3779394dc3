//! What this process uses, as the operating system counts it.
//!
//! Owns [`Usage`], read from Linux' `/proc`. What cannot be read is left out: a graph shows a gap and not a zero.
//! Trap: the second field of `stat` is a file name, which may hold spaces and parentheses.

use std::{fs, time::Duration};

/// Clock ticks of `/proc/*/stat` in a second: the kernel's USER_HZ, the same on every architecture we build for.
const TICKS: u32 = 100;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time.
    pub(crate) cpu: Option<Duration>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) threads: Option<u64>,
    pub(crate) open_fds: Option<u64>,
    /// File descriptors that may be open.
    pub(crate) max_fds: Option<u64>,
}

impl Usage {
    /// Reads a few files of a page each.
    pub(crate) fn read() -> Self {
        let text =
            |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let open_fds = fs::read_dir("/proc/self/fd").ok().map(|directory| directory.count() as u64);
        Self {
            // The directory itself is open while it is read.
            open_fds: open_fds.map(|count| count.saturating_sub(1)),
            ..Self::parse(&text("stat"), &text("status"), &text("limits"))
        }
    }

    fn parse(stat: &str, status: &str, limits: &str) -> Self {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
        // User and system time are fields 14 and 15; the first one behind the name is field 3.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let tick = |field: usize| number(fields.split_whitespace().nth(field - 3));
        let line = |name: &str| {
            let mut values = status.lines().filter_map(|line| line.strip_prefix(name));
            number(values.next().and_then(|value| value.split_whitespace().next()))
        };
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        Self {
            cpu: tick(14)
                .zip(tick(15))
                .map(|(user, system)| Duration::from_secs(user + system) / TICKS),
            resident_bytes: line("VmRSS:").map(|kib| kib * 1024),
            virtual_bytes: line("VmSize:").map(|kib| kib * 1024),
            threads: line("Threads:"),
            open_fds: None,
            max_fds: number(limit.and_then(|limit| limit.split_whitespace().next())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_read_whatever_the_program_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 1 1";
        let status = "Name:\tVmRSS: 1\nVmSize:\t   200 kB\nVmRSS:\t    30 kB\nThreads:\t3\n";
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n";
        let usage = Usage::parse(stat, status, limits);
        assert_eq!(usage.cpu, Some(Duration::from_secs(3)));
        assert_eq!(
            (usage.resident_bytes, usage.virtual_bytes),
            (Some(30 * 1024), Some(200 * 1024))
        );
        assert_eq!((usage.threads, usage.max_fds), (Some(3), Some(1024)));
        assert_eq!(Usage::parse("", "", "Max open files unlimited"), Usage::default());
    }
}
