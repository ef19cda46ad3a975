//! The examples of the runbooks that run containers: each deployed as its README says, upgraded, broken and reverted, with the
//! real programs in images made of Debian's packages, from a registry that stands in for the team's and for Docker Hub.

mod cadchat;
mod loss_adjuster;
mod theta;
mod xiaoliu;

use std::path::{Path, PathBuf};

use drover_tests::{
    fleet::Fleet,
    lab::{Host, Image, Registry, run},
};
use serde_json::{Value, json};

/// One host with Docker, a registry, and a copy of an example's folder.
struct Example {
    fleet: Fleet,
    registry: Registry,
    folder: tempfile::TempDir,
}

impl Example {
    /// Public images under their public names: those of Debian's programs.
    fn open(name: &str, public: &[(&str, &str)]) -> Example {
        let fleet = Fleet::start_with(&["web-1"], |lab, name| lab.docker_host(name));
        let registry = Registry::start();
        for (image, recipe) in public {
            registry.push(&format!("library/{image}"), &Image::debian(recipe));
        }
        registry.stand_in_for_hub(&fleet.hosts[0]);
        let folder = tempfile::tempdir().expect("a temporary directory");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
        run(std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(folder.path()), None).ok();
        Example { fleet, registry, folder }
    }

    fn host(&self) -> &Host {
        &self.fleet.hosts[0]
    }

    fn manifest(&self) -> PathBuf {
        self.folder.path().join("drover.yaml")
    }

    /// Puts one text in the place of another in a file of the example.
    #[track_caller]
    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(from), "{file} has no {from:?}");
        std::fs::write(path, text.replace(from, to)).expect("the file");
    }

    /// What the example's Dockerfile makes: a program with files of a folder in `/app`.
    fn image(&self, recipe: &str, folder: &str, files: &[&str], user: &str, command: &[&str]) -> Image {
        let read = |file: &&str| {
            let path = self.folder.path().join(folder).join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (format!("app/{file}"), text)
        };
        let files: Vec<(String, String)> = files.iter().map(read).collect();
        let files: Vec<(&str, u32, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), 0o644, text.as_str())).collect();
        let image = Image::debian(recipe).files(&files);
        image.set("WorkingDir", json!("/app")).set("User", json!(user)).set("Cmd", json!(command))
    }

    /// A certificate where certbot would put it, which the host's own programs take.
    fn certificate(&self, domain: &str) {
        let directory = format!("/etc/letsencrypt/live/{domain}");
        self.host().exec(&["mkdir", "-p", &directory]).ok();
        let (key, certificate) = (format!("{directory}/privkey.pem"), format!("{directory}/fullchain.pem"));
        let (subject, name) = (format!("/CN={domain}"), format!("subjectAltName=DNS:{domain}"));
        let make = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "90",
        ];
        let what = ["-subj", &subject, "-addext", &name, "-keyout", &key, "-out", &certificate];
        self.host().exec(&[make.as_slice(), what.as_slice()].concat()).ok();
    }

    /// What a visitor of the site gets, over TLS, the certificate checked.
    fn visit(&self, domain: &str, path: &str, more: &[&str]) -> String {
        let resolve = format!("{domain}:443:127.0.0.1");
        let certificate = format!("/etc/letsencrypt/live/{domain}/fullchain.pem");
        let url = format!("https://{domain}{path}");
        let argv = ["curl", "-sS", "-m", "10", "--resolve", &resolve, "--cacert", &certificate, &url];
        self.host().exec(&[argv.as_slice(), more].concat()).ok()
    }

    #[track_caller]
    fn visit_json(&self, domain: &str, path: &str, more: &[&str]) -> Value {
        let said = self.visit(domain, path, more);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}
