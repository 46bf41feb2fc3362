//! Where the benchmark's guests run: one dom0 with its share in memory, and one guest at a time.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bench::data::{Column, Row, Server};
use crate::bench::facts::Crowd;
use crate::cpio::Archive;
use crate::dom0::Image;
use crate::domain::{Backend, Domain, Guest, Kind, Reason, Verdict};
use crate::host::{Context, Result};
use crate::xen::{self, Bed, Size};
use crate::{Settings, daemon, fail, tail};

/// Time a guest may take.
const BENCH_TIMEOUT: Duration = Duration::from_secs(1800);

/// The machine. dom0 has one processor and the guest the other, so that neither takes the other's time.
const SIZE: Size = Size {
    machine: 3072,
    dom0: 1536,
    vcpus: 1,
};

/// Memory of both kinds of guest, in MiB.
pub const MEMORY: u32 = 256;

/// Programs and kernels, in dom0's memory.
const BIN: &str = "/run/bench";

/// dom0 with everything that runs need.
pub struct Stage {
    bed: Bed,
    scale: u32,
    runs: u32,
    server: Server,
}

impl Stage {
    /// Boots dom0, brings everything there and makes the files that are read.
    pub fn new(settings: &Settings, image: &Image, scale: u32) -> Result<Stage> {
        let bed = xen::start(image, &settings.cache(), SIZE, &[])?;
        for (from, to) in programs(settings) {
            bed.bring(&from, to)?;
        }
        daemon::bring(&bed, &settings.daemon())?;
        bed.bring(&image.kernel, "vmlinux")?;
        let initrd = bed.path().join("linux.cpio");
        let init = settings.root.join(LINUX);
        write_initrd(image, &init, &initrd)?;
        let mut stage = Stage {
            bed,
            scale,
            runs: 0,
            server: Server::Qemu,
        };
        stage.dom0(&format!(
            "set -e\nmkdir -p {BIN} /share\nmount -t tmpfs -o size=900M tmpfs /share\n\
             cp /host/*.elf /host/vmlinux /host/linux.cpio /host/bench-linux {BIN}\n\
             {BIN}/bench-linux prepare /share/files {scale}\n"
        ))?;
        Ok(stage)
    }

    /// Brings one more kernel there.
    pub fn bring(&mut self, path: &Path, name: &str) -> Result<()> {
        self.bed.bring(path, name)?;
        self.dom0(&format!("cp /host/{name} {BIN}")).map(drop)
    }

    /// From now on, this serves the share. QEMU does where there is nothing else.
    pub fn serve_by(&mut self, server: Server) -> Result<()> {
        if self.server != Server::Qemu {
            daemon::stop(&mut self.bed)?;
        }
        self.server = Server::Qemu;
        match server {
            Server::Qemu => {}
            Server::Xen9pd => daemon::start_again(&mut self.bed)?,
            Server::Floor => daemon::start_program(&mut self.bed, FLOOR)?,
        }
        self.server = server;
        Ok(())
    }

    fn backend(&self) -> Backend {
        match self.server {
            Server::Qemu => Backend::Qemu,
            Server::Xen9pd | Server::Floor => Backend::Xen9pdInstead,
        }
    }

    /// Runs a script in dom0 that must succeed; returns its output.
    pub fn dom0(&mut self, script: &str) -> Result<String> {
        let done = self.bed.run(script, BENCH_TIMEOUT)?;
        match done.status {
            0 => Ok(done.output),
            status => Err(fail!(
                "status {status} in dom0 of: {script}\n{}",
                done.output.trim_end()
            )),
        }
    }

    /// Runs our workload in a guest of ours.
    pub fn ours(&mut self, kind: Kind) -> Result<Vec<Row>> {
        let run = format!("run /control/0 /files /out/ours {}", self.scale);
        self.run(kind, "bench.elf", None, &run, &[Column::Ours])
    }

    /// Runs it in a guest of ours whose mount has a cache.
    pub fn cached(&mut self, kind: Kind) -> Result<Vec<Row>> {
        let run = format!("cached /control/0 /files /out/ours_cached {}", self.scale);
        self.run(kind, "bench.elf", None, &run, &[Column::OursCached])
    }

    /// Runs a part of it in a kernel that embeds the C library.
    pub fn embedded(&mut self, kind: Kind) -> Result<Vec<Row>> {
        let run = format!("bench /control/0 /files /out/ours {}", self.scale);
        let kernel = match kind {
            Kind::Pv => "embed-c-pv.elf",
            _ => "embed-c.elf",
        };
        self.run(kind, kernel, None, &run, &[Column::Ours])
    }

    /// Runs what settings of the connection matter for, with these.
    pub fn sweep(&mut self, kind: Kind, options: &str) -> Result<Vec<Row>> {
        let run = format!("{options} sweep /control/0 /files /out/ours");
        self.run(kind, "bench.elf", None, &run, &[Column::Ours])
    }

    /// Does some work and ten times as much, several times.
    pub fn growth(&mut self, kind: Kind) -> Result<Vec<Row>> {
        let run = "growth /control/0 /files /out/ours";
        self.run(kind, "bench.elf", None, run, &[Column::Ours])
    }

    /// Sends the same requests without a file API.
    pub fn limit(&mut self, kind: Kind) -> Result<Vec<Row>> {
        let run = format!("limit /control/0 /files /out/limit {}", self.scale);
        self.run(kind, "bench-limit.elf", None, &run, &[Column::Limit])
    }

    /// Runs it in a Linux guest, once for each of these mounts.
    pub fn linux(&mut self, kind: Kind, modes: &[Column]) -> Result<Vec<Row>> {
        let names: Vec<&str> = modes.iter().map(|mode| mode.name()).collect();
        let line = format!(
            "console=hvc0 quiet rdinit=/init bench=/control/0:/files:/out:{}:{}",
            self.scale,
            names.join(",")
        );
        self.run(kind, "vmlinux", Some("linux.cpio"), &line, modes)
    }

    /// Has many domains of ours at once read and write on the share.
    pub fn crowd(&mut self, kind: Kind, domains: usize) -> Result<Crowd> {
        /// MiB that each reads, and writes.
        const PART: f64 = 2.0;
        const MEMORY: u32 = 8;

        self.runs += 1;
        let batch = self.runs;
        let mut script = String::from("set -e\n");
        let mut verify = String::from("set -e\n");
        for index in 0..domains {
            let guest = Guest {
                name: format!("crowd{batch}-{index}"),
                kind,
                kernel: format!("{BIN}/bench.elf"),
                ramdisk: None,
                memory: MEMORY,
                vcpus: 1,
                command_line: format!("timeout=120 pair /control/{index} /files /out/{index}"),
                shares: vec![("share".to_owned(), "/share".to_owned())],
                backend: self.backend(),
                more: String::new(),
            };
            let name = &guest.name;
            let config = self.bed.path().join(format!("{name}.cfg"));
            fs::write(&config, guest.config()?).during("write", &config)?;
            script += &format!(
                "mkdir -p /share/out/{index}\nxl create -q -p /host/{name}.cfg\nxl vcpu-pin {name} 0 1\n\
                 ids=\"$ids $(xl domid {name})\"\n"
            );
            verify += &format!(
                "{BIN}/bench-linux verify-pair /share/out/{index}\n\
                 while xl domid {name} >/dev/null 2>&1; do sleep 0.1; done\n"
            );
        }
        script += &format!("{BIN}/bench-linux meter /share/control $ids\n");
        let output = self.dom0(&script)?;
        self.dom0(&format!("{verify}rm -rf /share/out /share/control\n"))?;
        // done INDEX NANOSECONDS GUEST-CPU DOM0-CPU PAGES
        let done: Vec<Vec<f64>> = output
            .lines()
            .filter_map(|line| line.strip_prefix("done "))
            .map(|line| {
                line.split(' ')
                    .filter_map(|word| word.parse().ok())
                    .collect()
            })
            .collect();
        if done.len() != domains || done.iter().any(|line| line.len() != 5) {
            return Err(fail!("not all of {domains} domains are done:\n{output}"));
        }
        let most = |at: usize| done.iter().map(|line| line[at]).fold(0.0, f64::max);
        Ok(Crowd {
            column: Column::Ours.on(self.server),
            kind: kind.name(),
            domains,
            memory: most(4) / 256.0,
            seconds: most(1) / 1e9,
            moved: 2.0 * PART * domains as f64,
        })
    }

    /// Whether the self-test passes in a domain with that memory.
    pub fn passes(&mut self, kind: Kind, memory: u32) -> Result<bool> {
        self.runs += 1;
        let guest = Guest {
            name: format!("small{}", self.runs),
            kind,
            kernel: format!("{BIN}/xen9p.elf"),
            ramdisk: None,
            memory,
            vcpus: 1,
            command_line: "selftest".to_owned(),
            shares: vec![("share".to_owned(), "/share/small".to_owned())],
            backend: self.backend(),
            more: String::new(),
        };
        self.dom0("rm -rf /share/small && mkdir -p /share/small")?;
        let mut domain = Domain::create(&mut self.bed, &guest)?;
        let deadline = Instant::now() + BENCH_TIMEOUT;
        let ended = domain.wait(&mut self.bed, Some(deadline), |_| Ok(()))?;
        Ok(ended.is_some_and(|ended| Verdict::from_console(&ended.console) == Verdict::Exit(0)))
    }

    /// Runs one guest from nothing to its end, and checks all it wrote.
    fn run(
        &mut self,
        kind: Kind,
        kernel: &str,
        ramdisk: Option<&str>,
        command_line: &str,
        columns: &[Column],
    ) -> Result<Vec<Row>> {
        self.runs += 1;
        let guest = Guest {
            name: format!("bench{}", self.runs),
            kind,
            kernel: format!("{BIN}/{kernel}"),
            ramdisk: ramdisk.map(|name| format!("{BIN}/{name}")),
            memory: MEMORY,
            vcpus: 1,
            command_line: command_line.to_owned(),
            shares: vec![("share".to_owned(), "/share".to_owned())],
            backend: self.backend(),
            more: String::new(),
        };
        let name = &guest.name;
        let scale = self.scale;
        let each = |what: &str| -> String {
            let lines = columns
                .iter()
                .map(|column| what.replace('@', column.name()));
            lines.collect()
        };
        let doom = each(&format!(
            "{BIN}/bench-linux doom /share/out/@/doomed {scale}\n"
        ));
        let claimed = match self.server {
            Server::Qemu => "",
            Server::Xen9pd | Server::Floor => CLAIMED,
        };
        let script = format!(
            "set -e\n{doom}xl create -p /host/{name}.cfg\nid=$(xl domid {name})\n{claimed}xl vcpu-pin {name} 0 1\n\
             {BIN}/bench-linux meter /share/control $id\n\
             log=/var/log/xen/xl-{name}.log\nuntil grep -q 'has shut down' $log; do sleep 0.1; done; cat $log\n\
             while xl domid {name} >/dev/null 2>&1; do sleep 0.1; done\n"
        );
        let mut domain = Domain::create_by(&mut self.bed, &guest, &script)?;
        let ended = domain.wait(&mut self.bed, Some(Instant::now() + BENCH_TIMEOUT), |_| {
            Ok(())
        })?;
        let console = domain.console();
        let end = || tail::end(&console, 15);
        let Some(ended) = ended else {
            return Err(fail!(
                "{name} still runs after {} s:\n{}",
                BENCH_TIMEOUT.as_secs(),
                end()
            ));
        };
        let verdict = Verdict::from_console(&console);
        if verdict != Verdict::Exit(0) || ended.reason != Some(Reason::PowerOff) {
            return Err(fail!(
                "{name} ended by {:?} with verdict {verdict:?}\n--- its console:\n{}\n--- dom0:\n{}",
                ended.reason,
                end(),
                tail::end(&ended.xl, 15)
            ));
        }
        let task = command_line.split(" /").next().unwrap_or_default();
        let verify = each(&match task.rsplit(' ').next() {
            Some("sweep" | "bench") => format!("{BIN}/bench-linux verify-sweep /share/out/@\n"),
            // This one checks by itself what it can, and removes it.
            Some("growth") => String::new(),
            // It is in the memory of a worker that is gone.
            _ if self.server == Server::Floor => String::new(),
            _ => format!("{BIN}/bench-linux verify /share/files /share/out/@ {scale}\n"),
        });
        self.dom0(&format!(
            "set -e\n{verify}while xl domid {name} >/dev/null 2>&1; do sleep 0.1; done\nrm -rf /share/out /share/control\n"
        ))?;
        let mut rows: Vec<Row> = console.lines().filter_map(Row::parse).collect();
        for row in &mut rows {
            row.column = row.column.on(self.server);
        }
        if rows.is_empty() {
            return Err(fail!("{name} measured nothing:\n{}", end()));
        }
        Ok(rows)
    }
}

/// Fails unless the device of domain `$id` was taken by what is to serve it, and not by QEMU.
const CLAIMED: &str = "[ \"$(xenstore-read /local/domain/0/backend/9pfs/$id/0/xen9pd)\" = 1 ]\n";

/// The floor's program in dom0.
const FLOOR: &str = "bench-floor";

/// The same, in the project's directory.
const FLOOR_PROGRAM: &str = "target/bench-floor.static";

/// Linux's side of the benchmark, in the project's directory.
const LINUX: &str = "target/static/x86_64-unknown-linux-gnu/release/bench-linux";

/// What dom0 gets: where it is here, and its name there.
fn programs(settings: &Settings) -> Vec<(PathBuf, &'static str)> {
    let at = |path: &str| settings.root.join(path);
    vec![
        (at("target/xen9p.elf"), "xen9p.elf"),
        (at("target/bench.elf"), "bench.elf"),
        (at("target/bench-limit.elf"), "bench-limit.elf"),
        (at(LINUX), "bench-linux"),
        (at(FLOOR_PROGRAM), FLOOR),
    ]
}

/// Adds the first process to the Linux guest's file system.
fn write_initrd(image: &Image, init: &Path, path: &Path) -> Result<()> {
    let modules = fs::read(&image.guest).during("read", &image.guest)?;
    let program = fs::read(init).during("read", init)?;
    let file = fs::File::create(path).during("create", path)?;
    let mut out = BufWriter::new(file);
    out.write_all(&modules)
        .and_then(|()| {
            let mut archive = Archive::new(out);
            archive.file("init", 0o755, &program)?;
            archive.finish()?.flush()
        })
        .during("write", path)
}
