//! Servers that hosts fetch artifacts from, on a lab host: nginx with TLS, and git
//! repositories behind it.

use crate::{lab::Host, tiny::Tiny};

/// What `/private/` of the git server wants to know.
pub const GIT_TOKEN: &str = "only-for-reading";

/// Makes `host` a web server with a certificate of a CA of its own: the CA's certificate.
pub fn web_server(host: &Host) -> Vec<u8> {
    let ip = host.ip();
    host.sh(&format!(
        "mkdir -p /etc/own /srv/files && cd /etc/own
         new='req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
         openssl $new -x509 -days 2 -subj /CN=test-ca -keyout ca.key -out ca.crt
         openssl $new -subj /CN=files -keyout web.key -out web.csr
         printf 'subjectAltName=IP:{ip}\\nbasicConstraints=CA:FALSE\\n' > ext
         openssl x509 -req -in web.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out web.crt"
    ));
    let site = format!(
        "log_format asked '$request $status range=$http_range auth=$http_authorization';
         server {{
           listen 8443 ssl; listen 8444 ssl;
           ssl_certificate /etc/own/web.crt; ssl_certificate_key /etc/own/web.key;
           access_log /var/log/nginx/asked.log asked;
           root /srv/files;
           location /limited/ {{ if ($http_authorization != \"Bearer let-me-in\") {{ return 403; }} limit_rate 6m; }}
           location = /to-metadata {{ return 302 https://169.254.169.254/latest/meta-data; }}
           location = /to-loopback {{ return 302 https://127.0.0.1:8443/open/app.tar; }}
           location = /to-http {{ return 302 http://{ip}/app.tar; }}
           location = /round {{ return 302 /round; }}
           location = /elsewhere {{ return 307 https://{ip}:8444/open/app.tar; }}
         }}"
    );
    host.write_file("/etc/nginx/conf.d/files.conf", site.as_bytes());
    host.exec(&["systemctl", "restart", "nginx"]).ok();
    host.read_file("/etc/own/ca.crt")
}

/// Puts the app's folder, with some ballast, on the server: the archive's SHA-256.
pub fn publish(server: &Host, tiny: &Tiny, ballast_mib: u32) -> String {
    for name in ["server.py", "version", "behaviour"] {
        let bytes = std::fs::read(tiny.path().join("app").join(name)).expect("a file of the app");
        server.write_file(&format!("/srv/app/{name}"), &bytes);
    }
    server.sh(&format!(
        "head -c {ballast_mib}M /dev/urandom > /srv/app/ballast
         mkdir -p /srv/files/open /srv/files/limited
         tar -C /srv/app -cf /srv/files/open/app.tar . && cp /srv/files/open/app.tar /srv/files/limited/"
    ));
    let said = server.exec(&["sha256sum", "/srv/files/open/app.tar"]).ok();
    said.split(' ').next().expect("a digest").to_owned()
}

/// Where the repository is, and what is in it.
pub struct GitServer {
    /// `https://ADDRESS:PORT`.
    pub base: String,
    /// Version 1; no branch or tag ends here.
    pub first: String,
    /// Version 2.
    pub second: String,
    /// With a link out of the tree.
    pub hostile: String,
}

/// Makes `host` a git server: `/open/`, `/old/` as servers before protocol 2 were, `/private/` for whoever has the token,
/// and slowly, `/moved/` elsewhere. Its attributes would change what `git archive` writes.
pub fn git_server(host: &Host) -> GitServer {
    let cgi = "include fastcgi_params; fastcgi_pass unix:/run/git-cgi/socket;
         fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend;
         fastcgi_param GIT_PROJECT_ROOT /srv/git; fastcgi_param GIT_HTTP_EXPORT_ALL 1; fastcgi_param PATH_INFO $1;
         fastcgi_param HTTP_GIT_PROTOCOL '';";
    let two = "fastcgi_param GIT_PROTOCOL $http_git_protocol;";
    let site = format!(
        "log_format sent '$bytes_sent';
         server {{
           listen 8445 ssl; access_log /var/log/nginx/sent.log sent; client_max_body_size 64m;
           ssl_certificate /etc/own/web.crt; ssl_certificate_key /etc/own/web.key;
           location ~ ^/open(/.*)$ {{ {cgi} {two} }}
           location ~ ^/old(/.*)$ {{ {cgi} }}
           location ~ ^/private(/.*)$ {{ auth_basic git; auth_basic_user_file /etc/own/git; limit_rate 2m; {cgi} {two} }}
           location /moved/ {{ return 302 https://{}:8445/open/mono.git/info/refs?service=git-upload-pack; }}
         }}",
        host.ip()
    );
    host.write_file("/etc/nginx/conf.d/git.conf", site.as_bytes());
    let tiny = Tiny::new();
    for name in ["server.py", "version", "behaviour"] {
        let bytes = std::fs::read(tiny.path().join("app").join(name)).expect("a file of the app");
        host.write_file(&format!("/srv/mono/services/app/{name}"), &bytes);
    }
    let said = host.sh(&format!(
        "printf 'oauth2:%s\\ndeploy:%s\\n' $(openssl passwd -apr1 {GIT_TOKEN}) $(openssl passwd -apr1 {GIT_TOKEN}) > /etc/own/git
         export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
         cd /srv/mono && git init -q -b main . && for i in $(seq 8); do head -c 2M /dev/urandom > services/app/$i; done
         printf 'server.py export-ignore\\nversion export-subst\\nbehaviour filter=lfs\\n' > .gitattributes
         printf '$Format:%%H$' > services/app/version && git add . && git commit -q -m one && git rev-parse HEAD
         printf 2 > services/app/version && git add . && git commit -q -m two && git rev-parse HEAD
         git checkout -q -b hostile && ln -s ../../../../etc/passwd services/app/evil && git add . && git commit -q -m three
         git rev-parse HEAD
         git clone -q --bare . /srv/git/mono.git && git -C /srv/git/mono.git config uploadpack.allowFilter true && chown -R www-data: /srv/git
         systemd-run -q --unit=git-cgi --uid=www-data -p RuntimeDirectory=git-cgi fcgiwrap -f -s unix:/run/git-cgi/socket
         systemctl restart nginx"
    ));
    let commits: Vec<&str> = said.split_whitespace().collect();
    let &[first, second, hostile] = commits.as_slice() else { panic!("three commits: {said}") };
    let base = format!("https://{}:8445", host.ip());
    GitServer { base, first: first.to_owned(), second: second.to_owned(), hostile: hostile.to_owned() }
}

impl GitServer {
    /// What a manifest says to have the app of that commit.
    pub fn artifact(&self, place: &str, commit: &str) -> String {
        format!("git: {}{place}\n  commit: {commit}\n  path: services/app", self.base)
    }
}
