//! Small `/proc`s and `/sys`s, and what is told of them; then the real ones.

use std::{collections::BTreeSet, fs, path::Path};

use super::*;
use crate::{
    host::interfaces::Interface,
    metrics::text::{Format, Text},
};

fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, content).unwrap();
    }
    let root = Root::new(dir.path());
    (dir, root)
}

/// The samples, without help and types.
fn samples(collect: Collect, files: &[(&str, &str)]) -> Vec<String> {
    let (_dir, root) = root(files);
    let mut text = Text::new(Format::Prometheus, 0);
    collect(&root, &mut text).unwrap();
    text.finish().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[track_caller]
fn told(collect: Collect, files: &[(&str, &str)], expected: &[&str]) {
    let samples = samples(collect, files);
    for line in expected {
        assert!(samples.iter().any(|sample| sample == line), "{line} is not in {samples:#?}");
    }
}

#[test]
fn processors_are_told_in_seconds() {
    let stat = "cpu  300 0 0 0 0 0 0 0 0 0\ncpu0 150 1 50 4000 30 2 10 7 5 6\ncpu3 1 2 3 4 5 6 7 8 9 10\n\
                intr 99 1 2 3\nctxt 1234\nbtime 1700000000\nprocesses 77\nprocs_running 2\nprocs_blocked 1\n";
    let files = [("proc/stat", stat)];
    let processors = |root: &Root, text: &mut Text| cpu::Processors::default().collect(&root.read("proc/stat")?, text);
    let stat = |root: &Root, text: &mut Text| root.read("proc/stat").map(|stat| cpu::stat(&stat, text));
    told(
        processors,
        &files,
        &[
            "node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 1.5",
            "node_cpu_seconds_total{cpu=\"0\",mode=\"steal\"} 0.07",
            "node_cpu_seconds_total{cpu=\"3\",mode=\"idle\"} 0.04",
            "node_cpu_guest_seconds_total{cpu=\"0\",mode=\"nice\"} 0.06",
        ],
    );
    assert_eq!(samples(processors, &files).len(), 20, "two processors, and not their sum");
    told(
        stat,
        &files,
        &["node_intr_total 99", "node_forks_total 77", "node_boot_time_seconds 1700000000", "node_procs_blocked 1"],
    );
    let schedstat = "version 15\ncpu0 0 0 0 0 0 0 2500000000 1000000 42\ndomain0 3 1 2\n";
    let expected =
        ["node_schedstat_running_seconds_total{cpu=\"0\"} 2.5", "node_schedstat_timeslices_total{cpu=\"0\"} 42"];
    told(cpu::schedstat, &[("proc/schedstat", schedstat)], &expected);
    let softnet = "0000000f 00000001 0000000a 00000000\n000000ff 00000000 00000000 00000000\n";
    let expected = ["node_softnet_processed_total{cpu=\"1\"} 255", "node_softnet_times_squeezed_total{cpu=\"0\"} 10"];
    told(cpu::softnet, &[("proc/net/softnet_stat", softnet)], &expected);
}

#[test]
fn what_a_processor_has_done_is_never_less_than_it_was() {
    let mut processors = cpu::Processors::default();
    let mut told = |stat: &str| {
        let (_dir, root) = root(&[("proc/stat", stat)]);
        let mut text = Text::new(Format::Prometheus, 0);
        processors.collect(&root.read("proc/stat").unwrap(), &mut text).unwrap();
        let text = text.finish();
        let value = |mode: &str| {
            let line = format!("node_cpu_seconds_total{{cpu=\"0\",mode=\"{mode}\"}} ");
            text.lines().find_map(|other| other.strip_prefix(&line)).unwrap_or_default().to_owned()
        };
        (value("idle"), value("iowait"))
    };
    let pair = |idle: &str, iowait: &str| (idle.to_owned(), iowait.to_owned());
    assert_eq!(told("cpu0 0 0 0 1000 50 0 0 0\n"), pair("10", "0.5"));
    assert_eq!(told("cpu0 0 0 0 1010 49 0 0 0\n"), pair("10.1", "0.5"));
    assert_eq!(told("cpu0 0 0 0 5 1 0 0 0\n"), pair("0.05", "0.01"), "it was away");
}

#[test]
fn memory_is_told_by_the_kernels_own_names() {
    let meminfo = "MemTotal:        2048 kB\nActive(anon):  3 kB\nHugePages_Total:       4\nHugepagesize:   2048 kB\n";
    told(
        memory::meminfo,
        &[("proc/meminfo", meminfo)],
        &[
            "node_memory_MemTotal_bytes 2097152",
            "node_memory_Active_anon_bytes 3072",
            "node_memory_HugePages_Total 4",
            "node_memory_Hugepagesize_bytes 2097152",
        ],
    );
    let vmstat = "nr_free_pages 5\npgpgin 1\npswpout 2\npgfault 3\npgmajfault 4\noom_kill 6\npgsteal_kswapd 7\n";
    let expected =
        ["node_vmstat_oom_kill 6", "node_vmstat_pgfault 3", "node_vmstat_pgmajfault 4", "node_vmstat_pgpgin 1"];
    told(memory::vmstat, &[("proc/vmstat", vmstat)], &expected);
    assert_eq!(samples(memory::vmstat, &[("proc/vmstat", vmstat)]).len(), 5);
}

#[test]
fn the_network_is_told_interface_by_interface() {
    let interface = |name: &str, index| Interface {
        name: name.to_owned(),
        index,
        link: index,
        // Up, has a carrier, and is asked for all packets, though not by its flags.
        flags: 0x1_1003,
        promiscuous: Some(1),
        carrier: 1,
        carrier_changes: [Some(2), Some(1), None],
        alias: "a \"line\"".to_owned(),
        state: 6,
        counts: std::array::from_fn(|at| 1 << at),
        ..Interface::default()
    };
    let (_dir, root) = root(&[
        ("sys/class/net/eth0/speed", "-1\n"),
        ("sys/class/net/eth0/dev_id", "0x10\n"),
        ("sys/class/net/lo/speed", "10\n"),
    ]);
    let interfaces = net::Interfaces::default();
    let loopback = Interface { flags: 0x49, state: 0, ..interface("lo", 1) };
    let devices = [interfaces.device(&root, interface("eth0", 2)), interfaces.device(&root, loopback)];
    let mut text = Text::new(Format::Prometheus, 0);
    net::netdev(&devices, &mut text);
    net::netclass(&devices, &mut text);
    let text = text.finish();
    for expected in [
        "node_network_receive_bytes_total{device=\"eth0\"} 4",
        "node_network_receive_drop_total{device=\"eth0\"} 32832",
        "node_network_receive_frame_total{device=\"eth0\"} 15360",
        "node_network_transmit_carrier_total{device=\"eth0\"} 1769472",
        "node_network_receive_nohandler_total{device=\"lo\"} 8388608",
        "node_network_flags{device=\"eth0\"} 4355",
        "node_network_carrier{device=\"eth0\"} 1",
        "node_network_dormant{device=\"eth0\"} 0",
        "node_network_device_id{device=\"eth0\"} 16",
        "node_network_iface_link{device=\"eth0\"} 2",
        "node_network_speed_bytes{device=\"eth0\"} -125000",
        "node_network_up{device=\"eth0\"} 1",
        "node_network_up{device=\"lo\"} 0",
        "node_network_carrier_changes_total{device=\"eth0\"} 2",
        "node_network_info{address=\"\",broadcast=\"\",device=\"eth0\",duplex=\"\",ifalias=\"a \\\"line\\\"\",operstate=\"up\"} 1",
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected} is not in {text}");
    }
    assert!(!text.contains("carrier_down_changes") && !text.contains("speed_bytes{device=\"lo\"}"), "{text}");
    let arp =
        "IP address HW type Flags HW address Mask Device\n10.0.0.1 0x1 0x2 aa * eth0\n10.0.0.2 0x1 0x2 bb * eth0\n";
    told(net::arp, &[("proc/net/arp", arp)], &["node_arp_entries{device=\"eth0\"} 2"]);
}

#[test]
fn sockets_and_protocols_are_told() {
    let netstat = "TcpExt: SyncookiesSent ListenDrops Other\nTcpExt: 1 2 3\nIpExt: InOctets InMcastPkts\nIpExt: 5 6\n";
    let snmp = "Tcp: RtoAlgorithm MaxConn CurrEstab\nTcp: 1 -1 7\nUdp: InErrors\nUdp: 8\n";
    let snmp6 = "Ip6InOctets   9\nUdpLite6InErrors 10\nIcmp6InMsgs 11\nIp6InMcastPkts 12\n";
    let files = [("proc/net/netstat", netstat), ("proc/net/snmp", snmp), ("proc/net/snmp6", snmp6)];
    assert_eq!(
        samples(sockets::netstat, &files),
        [
            "node_netstat_Icmp6_InMsgs 11",
            "node_netstat_Ip6_InOctets 9",
            "node_netstat_IpExt_InOctets 5",
            "node_netstat_Tcp_CurrEstab 7",
            "node_netstat_TcpExt_ListenDrops 2",
            "node_netstat_TcpExt_SyncookiesSent 1",
            "node_netstat_Udp_InErrors 8",
            "node_netstat_UdpLite6_InErrors 10",
        ]
    );
    let sockstat = "sockets: used 12\nTCP: inuse 3 orphan 0 tw 1 alloc 4 mem 2\nFRAG: inuse 0 memory 5\n";
    let page = rustix::param::page_size();
    told(
        sockets::sockstat,
        &[("proc/net/sockstat", sockstat)],
        &[
            "node_sockstat_sockets_used 12",
            "node_sockstat_TCP_tw 1",
            &format!("node_sockstat_TCP_mem_bytes {}", 2 * page),
            "node_sockstat_FRAG_memory 5",
        ],
    );
    let udp = "  sl  local_address rem_address   st tx_queue rx_queue\n 1: 00000000:0035 00000000:0000 07 0000000A:00000010 00\n";
    let expected = ["node_udp_queues{ip=\"v4\",queue=\"tx\"} 10", "node_udp_queues{ip=\"v4\",queue=\"rx\"} 16"];
    told(sockets::udp_queues, &[("proc/net/udp", udp)], &expected);
    let tracked = "entries found invalid\n00000001 0000000a 00000002\n00000001 00000001 00000003\n";
    let files = [
        ("proc/sys/net/netfilter/nf_conntrack_count", "7\n"),
        ("proc/sys/net/netfilter/nf_conntrack_max", "100\n"),
        ("proc/net/stat/nf_conntrack", tracked),
    ];
    let expected = ["node_nf_conntrack_entries_limit 100", "node_nf_conntrack_stat_found 11"];
    told(sockets::conntrack, &files, &expected);
}

#[test]
fn disks_are_told_in_bytes_and_seconds() {
    let diskstats =
        "254 0 vda 10 1 4 1500 20 2 8 2500 3 4000 5000 6 7 8 9000 11 12000\n 7 0 loop0 1 1 1 1 1 1 1 1 1 1 1\n";
    let udev = "S:disk/by-id/x\nE:ID_MODEL=A_disk\nE:ID_SERIAL_SHORT=S1\n";
    told(
        disk::diskstats,
        &[("proc/diskstats", diskstats), ("run/udev/data/b254:0", udev)],
        &[
            "node_disk_reads_completed_total{device=\"vda\"} 10",
            "node_disk_read_bytes_total{device=\"vda\"} 2048",
            "node_disk_write_time_seconds_total{device=\"vda\"} 2.5",
            "node_disk_io_now{device=\"vda\"} 3",
            "node_disk_io_time_weighted_seconds_total{device=\"vda\"} 5",
            "node_disk_flush_requests_time_seconds_total{device=\"vda\"} 12",
            "node_disk_info{device=\"vda\",major=\"254\",minor=\"0\",model=\"A_disk\",path=\"\",revision=\"\",serial=\"S1\",wwn=\"\"} 1",
        ],
    );
}

#[test]
fn the_system_is_told() {
    let some = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0 avg60=0 avg300=0 total=250000\n";
    let files = [("proc/pressure/cpu", some), ("proc/pressure/io", some), ("proc/pressure/memory", some)];
    let expected = ["node_pressure_cpu_waiting_seconds_total 1.5", "node_pressure_memory_stalled_seconds_total 0.25"];
    told(system::pressure, &files, &expected);
    told(system::loadavg, &[("proc/loadavg", "0.50 1.25 2.00 1/100 42\n")], &["node_load1 0.5", "node_load15 2"]);
    told(system::filefd, &[("proc/sys/fs/file-nr", "960\t0\t1000\n")], &["node_filefd_allocated 960"]);
    let release = "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"22.04.3\"\nPRETTY_NAME='Ubuntu 22.04'\n";
    let samples = samples(system::os, &[("etc/os-release", release)]);
    assert_eq!(samples[1], "node_os_version{id=\"ubuntu\",id_like=\"debian\",name=\"Ubuntu\"} 22.04");
    assert!(samples[0].contains("pretty_name=\"Ubuntu 22.04\""), "{samples:?}");
}

/// Everything that is there on this machine, in both formats, says each name once and each sample in its family.
#[test]
fn the_real_host_is_told_whole() {
    let mut successes = BTreeSet::new();
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let mut text = Text::new(format, 0);
        collect(&Root::new("/").keeping(), &mut Memory::default(), None, &mut text);
        let text = text.finish();
        let (mut families, mut seen, mut family) = (BTreeSet::new(), BTreeSet::new(), "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap_or_default();
                assert!(families.insert(family.to_owned()), "{family} comes twice");
            } else if !line.starts_with('#') {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                assert!(sample.starts_with(family), "{line} is not of {family}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                // Both formats are asked at different moments; within one nothing is said twice.
                assert!(seen.insert(sample.to_owned()), "{sample} comes twice");
                if let Some(name) = sample.strip_prefix("node_scrape_collector_success{").filter(|_| value == "1") {
                    successes.insert(name.to_owned());
                }
            }
        }
    }
    for name in
        ["cpu", "meminfo", "filesystem", "netdev", "netclass", "stat", "loadavg", "time", "timex", "uname", "vmstat"]
    {
        assert!(successes.contains(&format!("collector=\"{name}\"}}")), "{name} is not in {successes:?}");
    }
}

#[test]
fn what_vanishes_while_it_is_read_is_left_out() {
    let (dir, root) = root(&[]);
    let at = dir.path().join("sys/class/net/veth1");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                fs::create_dir_all(&at).unwrap();
                for file in ["speed", "duplex", "dev_id"] {
                    fs::write(at.join(file), "7\n").unwrap();
                }
                fs::remove_dir_all(&at).unwrap();
            }
        });
        for _ in 0..500 {
            let interface = Interface { name: "veth1".to_owned(), flags: 1, mtu: 1500, ..Interface::default() };
            let device = net::Interfaces::default().device(&root, interface);
            let mut text = Text::new(Format::Prometheus, 0);
            net::netclass(&[device], &mut text);
            let text = text.finish();
            assert!(text.contains("node_network_mtu_bytes{device=\"veth1\"} 1500\n"), "{text}");
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn what_is_kept_open_is_read_anew_and_may_go_and_come_back() {
    let (dir, root) = root(&[("proc/loadavg", "1 2 3\n"), ("etc/os-release", "a\n")]);
    let (root, at) = (root.keeping(), dir.path().join("proc/loadavg"));
    assert_eq!(root.read("proc/loadavg").unwrap(), "1 2 3\n");
    fs::write(&at, "4 5 6 7\n").unwrap();
    assert_eq!(root.read("proc/loadavg").unwrap(), "4 5 6 7\n");
    assert_eq!(root.line("proc/loadavg").unwrap(), "4 5 6 7");
    assert_eq!(root.read("proc/none").unwrap_err().kind(), io::ErrorKind::NotFound);
    // What is no file of the kernel is found anew.
    assert_eq!(root.read("etc/os-release").unwrap(), "a\n");
    fs::rename(&at, dir.path().join("etc/os-release")).unwrap();
    assert_eq!(root.read("etc/os-release").unwrap(), "4 5 6 7\n");
}

#[test]
fn every_socket_is_read_though_the_end_is_not_asked_for() {
    let bind = |address: &str| std::net::UdpSocket::bind((address, 0));
    let port = |socket: &std::net::UdpSocket| format!(":{:04X} ", socket.local_addr().unwrap().port());
    let root = Root::new("/").keeping();
    // From a part of a page to several of them, at each size that the last one may have.
    for (file, address) in [("proc/net/udp", "127.0.0.1"), ("proc/net/udp6", "::1")] {
        // There may be no IPv6.
        if address != "127.0.0.1" && bind(address).is_err() {
            continue;
        }
        let mut sockets = Vec::new();
        for _ in 0..100 {
            sockets.push(bind(address).unwrap());
            // A socket of somebody else that is closed between two pages makes the kernel skip one.
            let are_there = |_| {
                let text = root.rows(file, sockets::UDP_LINE).unwrap();
                sockets.iter().map(port).all(|port| text.contains(&port))
            };
            assert!((0..3).any(are_there), "one of {} is missing", sockets.len());
        }
    }
}
