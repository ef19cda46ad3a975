//! What a project asks of the host's paths, devices, networks and ports. Part of `config`.

use drover_proto::{app::Namespace, port::Port};

use super::{Ask, Reader};
use crate::host::yaml::Yaml;

impl Reader {
    pub(super) fn device(&mut self, who: &str, device: &Yaml) {
        let text = match device {
            Yaml::Map(_) => device.get("source").text(),
            _ => device.text().split(':').next().unwrap_or_default(),
        };
        self.ask(who, Ask::Device(text.to_owned()));
    }

    pub(super) fn mount(&mut self, who: &str, volume: &Yaml) {
        let bind = |path: &str, read_only| Ask::Bind { path: path.replace("$$", "$"), read_only };
        if let Yaml::Map(_) = volume {
            let source = volume.get("source").text();
            match volume.get("type").text() {
                "bind" => {
                    self.ask(who, bind(source, volume.get("read_only").is_on()));
                    let propagation = volume.get("bind").get("propagation").text();
                    if propagation.contains("shared") {
                        self.ask(who, Ask::Other(format!("what it mounts in {source} would be mounted on the host")));
                    }
                }
                "volume" if !source.starts_with('/') => {}
                "tmpfs" => {}
                kind => self.wrong.push(format!("{who}: drover does not know volumes of the type {kind:?}")),
            }
            return;
        }
        let text = volume.text();
        let Some((source, rest)) = text.split_once(':') else { return };
        let mode = rest.split_once(':').map_or("", |(_, mode)| mode);
        let modes: Vec<&str> = mode.split(',').collect();
        if source.starts_with(['/', '.', '~']) {
            self.ask(who, bind(source, modes.contains(&"ro")));
            if modes.iter().any(|mode| mode.contains("shared")) {
                self.ask(who, Ask::Other(format!("what it mounts in {source} would be mounted on the host")));
            }
        }
    }

    /// A local volume can be any mount, of a directory of the host too.
    pub(super) fn volume(&mut self, name: &str, volume: &Yaml) {
        let who = format!("volume {name}");
        let driver = volume.get("driver").text();
        if !matches!(driver, "" | "local") {
            self.ask(&who, Ask::Other(format!("it would be of the driver {driver}")));
        }
        let options = volume.get("driver_opts");
        let (device, how) = (options.get("device").text(), options.get("o").text());
        if options.entries().is_empty() {
            return;
        }
        let only_bind = options.entries().iter().all(|(key, value)| match key.as_str() {
            "type" => matches!(value.text(), "none" | "bind" | ""),
            "o" => value.text().split(',').all(|word| matches!(word, "bind" | "rbind" | "ro" | "rw")),
            key => key == "device",
        });
        if only_bind && device.starts_with('/') {
            let read_only = how.split(',').any(|word| word == "ro");
            self.ask(&who, Ask::Bind { path: device.replace("$$", "$"), read_only });
        } else {
            self.ask(&who, Ask::Other(format!("it would be a mount of {device:?}")));
        }
    }

    pub(super) fn network(&mut self, key: &str, network: &Yaml) {
        let who = format!("network {key}");
        let external = network.get("external").get("name").text();
        if key == "host" || [network.get("name").text(), network.get("driver").text(), external].contains(&"host") {
            self.ask(&who, Ask::Namespace(Namespace::Network));
        }
        let driver = network.get("driver").text();
        if !matches!(driver, "" | "bridge" | "default" | "host" | "null" | "none") {
            self.ask(&who, Ask::Other(format!("it would be of the driver {driver}")));
        }
    }

    /// A secret or a configuration: a file of the host, or a text.
    pub(super) fn held(&mut self, who: &str, held: &Yaml) {
        let file = held.get("file").text();
        if !file.is_empty() {
            self.ask(who, Ask::Bind { path: file.replace("$$", "$"), read_only: true });
        }
        if held.get("external").is_on() {
            self.wrong.push(format!("{who}: external ones are swarm's"));
        }
    }
}

/// `{ published: 8080, target: 80 }`, or `127.0.0.1:53:53/udp`.
pub(super) fn published(port: &Yaml) -> Option<Port> {
    let text = match port {
        Yaml::Map(_) => {
            let (address, transport) = (port.get("host_ip").text(), port.get("protocol").text());
            let address = if address.contains(':') { format!("[{address}]:") } else { format!("{address}:") };
            let transport = if transport.is_empty() { "tcp" } else { transport };
            format!("{}{}/{transport}", address.trim_start_matches(':'), port.get("published").text())
        }
        _ => {
            let (place, transport) = port.text().rsplit_once('/').unwrap_or((port.text(), "tcp"));
            format!("{}/{transport}", place.rsplit_once(':')?.0)
        }
    };
    text.parse().ok()
}
