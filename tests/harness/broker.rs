//! A real mosquitto on a free loopback port, started and ended by the suite. It keeps nothing on
//! disk, so that a broker that was killed comes back empty, as a machine that lost its power does.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::certificates::{Authority, Of};
use super::client::{Client, listens};
use super::{free_port, until};

/// Where a broker speaks TLS.
struct Listener {
    port: u16,
    asks_clients: bool,
}

/// A broker that may be stopped and started again on its port.
pub struct Broker {
    /// Where it listens.
    pub port: u16,
    folder: TempDir,
    login: Option<(String, String)>,
    tls: Option<Listener>,
    web: Option<u16>,
    child: Option<Child>,
}

impl Broker {
    /// A broker on a free port that lets everybody in; it is not started yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { port: free_port(), folder, login: None, tls: None, web: None, child: None }
    }

    /// A broker that everybody may use, running.
    pub fn started() -> Self {
        let mut broker = Self::new();
        broker.start();
        broker
    }

    /// A broker that asks for a user and password, running.
    pub fn with_login(user: &str, password: &str) -> Self {
        let mut broker = Self::new();
        broker.login = Some((user.to_owned(), password.to_owned()));
        let file = broker.folder.path().join("passwords");
        let made =
            Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args([user, password]).output();
        assert!(made.expect("mosquitto_passwd comes with mosquitto").status.success());
        broker.start();
        broker
    }

    /// A broker that speaks TLS beside, with a certificate that `authority` signs, and asks clients for one of theirs
    /// where it is told to. What it trusts is `ca.pem` of its folder.
    pub fn with_tls(authority: &Authority, of: Of, asks_clients: bool) -> Self {
        let mut broker = Self::new();
        let path = |name: &str| broker.folder.path().join(name);
        authority.write(&path("ca.pem"));
        authority.issue(of, &path("broker.pem"), &path("broker.key"));
        broker.tls = Some(Listener { port: free_port(), asks_clients });
        broker.start();
        broker
    }

    /// A broker that speaks websockets beside.
    pub fn with_websockets() -> Self {
        let mut broker = Self::new();
        broker.web = Some(free_port());
        broker.start();
        broker
    }

    /// The same, by TLS; what it trusts is `ca.pem` of its folder.
    pub fn with_secure_websockets(authority: &Authority) -> Self {
        let mut broker = Self::with_tls(authority, Of::Loopback, false);
        broker.kill();
        broker.web = broker.tls.take().map(|listener| listener.port);
        broker.start();
        broker
    }

    /// Its port for websockets.
    pub fn web_port(&self) -> u16 {
        self.web.expect("it speaks websockets")
    }

    /// The url of a job file, by TLS.
    pub fn tls_url(&self) -> String {
        let port = self.tls.as_ref().expect("it speaks TLS").port;
        format!("mqtts://127.0.0.1:{port}")
    }

    /// The url of a job file.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Starts it, and waits until it listens.
    pub fn start(&mut self) {
        let mut command = Command::new(program());
        command.arg("-c").arg(self.configuration()).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("mosquitto is installed (make test does it)"));
        let port = self.port;
        until("mosquitto to listen", || {
            let child = self.child.as_mut().expect("it was just started");
            let ended = child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "mosquitto ended: {ended:?}; is port {port} taken?");
            let tls = self.tls.as_ref().is_none_or(|tls| listens(tls.port));
            let web = self.web.is_none_or(listens);
            (listens(port) && tls && web).then_some(())
        });
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child that runs can be killed");
            child.wait().expect("a killed child ends");
        }
    }

    /// A client of it.
    pub fn client(&self, id: &str) -> Client {
        let login = self.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
        Client::connect(self.port, id, login)
    }

    /// A client whose last will, a topic and a payload, the broker publishes when it vanishes.
    pub fn client_with_will(&self, id: &str, will: (&str, &str)) -> Client {
        Client::connect_with_will(self.port, id, will)
    }

    fn configuration(&self) -> PathBuf {
        let access = match self.login {
            Some(_) => format!("password_file {}", self.folder.path().join("passwords").display()),
            None => "allow_anonymous true".to_owned(),
        };
        let tls = self.tls.as_ref().map_or(String::new(), |Listener { port, asks_clients }| {
            let path = |name: &str| self.folder.path().join(name).display().to_string();
            format!(
                "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {asks_clients}\n",
                path("ca.pem"),
                path("broker.pem"),
                path("broker.key")
            )
        });
        let web = self.web.map_or(String::new(), |port| {
            let path = |name: &str| self.folder.path().join(name);
            let tls = if path("broker.pem").exists() {
                format!(
                    "certfile {}\nkeyfile {}\n",
                    path("broker.pem").display(),
                    path("broker.key").display()
                )
            } else {
                String::new()
            };
            format!("listener {port} 127.0.0.1\nprotocol websockets\n{tls}")
        });
        // Started by root it would become a user who may not read the folder; else it stays as it is.
        let text = format!(
            "user root\nlistener {} 127.0.0.1\n{access}\npersistence false\n\
             max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\n{tls}{web}",
            self.port
        );
        let path = self.folder.path().join("mosquitto.conf");
        std::fs::write(&path, text).expect("the folder is ours");
        path
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // One that has ended cannot be killed, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Debian puts mosquitto where only root looks for programs.
fn program() -> &'static str {
    match std::path::Path::new("/usr/sbin/mosquitto").exists() {
        true => "/usr/sbin/mosquitto",
        false => "mosquitto",
    }
}
