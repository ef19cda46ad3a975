//! CPU and time of one scrape, beside prometheus-node-exporter with those of its collectors whose names the agent serves; in turn on
//! one host, over one connection each, uncompressed. Between them the agent's page that says nothing: what a question and an answer
//! take on this machine by themselves.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use drover_tests::{
    fleet::Fleet,
    lab::{Host, eventually},
    tiny::Tiny,
};

use crate::{
    figure::Samples,
    setting,
    subject::{Subject, install_peers, versions},
};

const PEER: &str = "prometheus-node-exporter";
/// Those whose names docs/METRICS.md has.
const COLLECTORS: [&str; 25] = [
    "arp",
    "conntrack",
    "cpu",
    "diskstats",
    "entropy",
    "filefd",
    "filesystem",
    "loadavg",
    "meminfo",
    "netclass",
    "netdev",
    "netstat",
    "os",
    "pressure",
    "schedstat",
    "selinux",
    "sockstat",
    "softnet",
    "stat",
    "systemd",
    "time",
    "timex",
    "udp_queues",
    "uname",
    "vmstat",
];
/// systemd counts CPU time more coarsely than a scrape takes.
const IN_A_ROUND: u32 = 20;
/// The agent takes scrapes that come closer together for one.
const APART: Duration = Duration::from_millis(300);

/// `BENCH_ROUNDS`: of 20 scrapes by each.
pub fn measure() -> String {
    let fleet = Fleet::start(&["w1"]);
    let host = fleet.host("w1");
    fleet.alice.apply(&Tiny::new().manifest()).ok();
    fleet.lab.internet();
    install_peers(host, &[PEER]);
    host.write_file("/etc/drover/agent.toml", b"[metrics]\nlisten = \"0.0.0.0:7444\"\n");
    let only = COLLECTORS.map(|name| format!("--collector.{name}")).join(" ");
    let args = format!("ARGS=\"--collector.disable-defaults {only}\"\n");
    host.write_file("/etc/default/prometheus-node-exporter", args.as_bytes());
    host.exec(&["systemctl", "restart", "drover-agent", PEER]).ok();

    let subjects = [
        (Subject::new(host, "drover-agent.service", "drover-agent"), 7444),
        (Subject::new(host, "prometheus-node-exporter.service", "prometheus-node"), 9100),
    ];
    let mut connections = subjects.each_ref().map(|(_, port)| Connection::to(host, *port));
    for connection in &mut connections {
        connection.get("/metrics");
    }
    let mut nothing = Samples::default();
    let (mut cpu, mut times) = ([Samples::default(), Samples::default()], [Samples::default(), Samples::default()]);
    let mut bytes = [0, 0];
    for _ in 0..setting("BENCH_ROUNDS", 10) {
        for (index, (subject, _)) in subjects.iter().enumerate() {
            let before = subject.cpu_seconds();
            for _ in 0..IN_A_ROUND {
                std::thread::sleep(APART);
                let begun = Instant::now();
                bytes[index] = connections[index].get("/metrics");
                times[index].add(begun.elapsed().as_secs_f64() * 1000.0);
            }
            cpu[index].add((subject.cpu_seconds() - before) * 1000.0 / f64::from(IN_A_ROUND));
        }
        for _ in 0..IN_A_ROUND {
            std::thread::sleep(APART);
            let begun = Instant::now();
            connections[0].get("/");
            nothing.add(begun.elapsed().as_secs_f64() * 1000.0);
        }
    }
    let peer_cpu = cpu[1].median();
    let ratio = cpu[0].median() / peer_cpu;
    let (mut cpu, mut times) =
        (cpu.iter().map(|s| s.spread(3)), times.iter().map(|s| (s.spread(2), s.percentile(99.0))));
    let mut table = format!(
        "One scrape; peer: {} with the same collectors; {} B and {} B\n\n\
         | | drover-agent | peer | ratio |\n|---|---|---|---|\n| CPU, ms, median (least-most) | {} | {} | {ratio:.3} |\n",
        versions(host, &[PEER]),
        bytes[0],
        bytes[1],
        cpu.next().unwrap_or_default(),
        cpu.next().unwrap_or_default(),
    );
    let [ours, theirs] = [times.next().unwrap_or_default(), times.next().unwrap_or_default()];
    table.push_str(&format!("| time, ms, median (least-most) | {} | {} | |\n", ours.0, theirs.0));
    table.push_str(&format!("| time, ms, p99 | {:.2} | {:.2} | |\n", ours.1, theirs.1));
    table.push_str(&format!("| time at p99 beside the peer's CPU, median | | | {:.3} |\n", ours.1 / peer_cpu));
    let (median, p99) = (nothing.spread(2), nothing.percentile(99.0));
    table.push_str(&format!("| a page that says nothing, ms, median (least-most); p99 | {median}; {p99:.2} | | |\n"));
    table
}

/// One that is kept open, as Prometheus does.
struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    fn to(host: &Host, port: u16) -> Self {
        let stream = eventually("it serves", Duration::from_secs(20), || {
            TcpStream::connect((host.ip(), port)).map_err(|error| error.to_string())
        });
        stream.set_nodelay(true).expect("an option of TCP");
        Self { stream: BufReader::new(stream), host: format!("{}:{port}", host.ip()) }
    }

    /// Bytes of the body.
    fn get(&mut self, path: &str) -> usize {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/plain\r\n\r\n", self.host);
        self.stream.get_mut().write_all(request.as_bytes()).expect("a request");
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line();
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            is_chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
            if line.is_empty() {
                break;
            }
        }
        if !is_chunked {
            self.skip(length);
            return length;
        }
        let mut all = 0;
        loop {
            let length = usize::from_str_radix(&self.line(), 16).expect("the length of a chunk");
            self.skip(length);
            self.line();
            all += length;
            if length == 0 {
                return all;
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn skip(&mut self, length: usize) {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
    }
}
