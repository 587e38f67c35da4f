//! What Linux says of this process, under the names that every Prometheus client gives it.
//!
//! Takes `/proc`, gives gauges that are read when the page is made. By hand: the `process` feature of the
//! `prometheus` crate brings a second `rustix`. Where there is no `/proc`, they are 0.

use std::fs;

use prometheus::{Counter, Gauge};

/// Ticks of a second: the same on every Linux that we build for.
const TICKS: f64 = 100.0;

/// The numbers of a process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessSeries {
    pub(crate) cpu: Counter,
    pub(crate) open: Gauge,
    pub(crate) most_open: Gauge,
    pub(crate) virtual_memory: Gauge,
    pub(crate) resident_memory: Gauge,
    pub(crate) start: Gauge,
    pub(crate) threads: Gauge,
}

/// What `/proc/self/stat` and `/proc/self/status` say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    started_ticks: f64,
    threads: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl ProcessSeries {
    /// Reads them anew.
    pub(crate) fn read(&self) {
        let usage = usage(&text("/proc/self/stat"), &text("/proc/self/status"));
        self.cpu.inc_by((usage.cpu_seconds - self.cpu.get()).max(0.0));
        self.threads.set(usage.threads);
        self.virtual_memory.set(usage.virtual_bytes);
        self.resident_memory.set(usage.resident_bytes);
        let booted = number_after(&text("/proc/stat"), "btime");
        self.start.set(booted + usage.started_ticks / TICKS);
        self.most_open.set(number_after(&text("/proc/self/limits"), "Max open files"));
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        // One of them is the folder itself.
        self.open.set(open.saturating_sub(1) as f64);
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn usage(stat: &str, status: &str) -> Usage {
    // The name of the program, in brackets, may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<f64> =
        fields.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    // Numbered from the field after the name, the state.
    let field = |at: usize| fields.get(at).copied().unwrap_or(0.0);
    Usage {
        cpu_seconds: (field(11) + field(12)) / TICKS,
        threads: field(17),
        started_ticks: field(19),
        virtual_bytes: number_after(status, "VmSize:") * 1024.0,
        resident_bytes: number_after(status, "VmRSS:") * 1024.0,
    }
}

/// The first number of the line that begins so.
fn number_after(text: &str, begin: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(begin));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::{Usage, number_after, usage};

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let stat = "7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 250 150 13 14 15 16 12 18 4711 20 21";
        let status = "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let expected = Usage {
            cpu_seconds: 4.0,
            started_ticks: 4_711.0,
            threads: 12.0,
            virtual_bytes: 2_097_152.0,
            resident_bytes: 1_048_576.0,
        };
        assert_eq!(usage(stat, status), expected);
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        assert_eq!(usage("", ""), Usage::default());
        let limits = "Max cpu time  unlimited\nMax open files            unlimited  files";
        assert_eq!(number_after(limits, "Max open files"), 0.0);
        assert_eq!(number_after("Max open files   1024   4096 files", "Max open files"), 1_024.0);
    }
}
