//! A real mosquitto on a free loopback port, for as long as a bench needs it, and a wait for what
//! comes by itself.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use connectors::mqtt::MqttSettings;
use tempfile::TempDir;

/// A broker that runs; it is ended when this is dropped.
pub struct Broker {
    port: u16,
    child: Child,
    /// Holds its configuration.
    _folder: TempDir,
}

impl Broker {
    /// Starts mosquitto, and waits until it listens.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The system gives a free port; it is free again when the listener is dropped.
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        drop(listener);
        let file = folder.path().join("mosquitto.conf");
        // Started by root it would become a user who may not read the folder. Without nodelay a small
        // packet waits for the acknowledgement of the last, up to 40 ms.
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             max_queued_messages 0\nset_tcp_nodelay true\n"
        );
        std::fs::write(&file, text).expect("the folder is ours");
        let mut command = Command::new(program());
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("mosquitto is installed (`make bench` does it)");
        let mut broker = Self { port, child, _folder: folder };
        broker.wait();
        broker
    }

    /// How a client reaches it, with this quality of service.
    pub fn settings(&self, qos: u8) -> MqttSettings {
        MqttSettings { qos, ..MqttSettings::new(format!("mqtt://127.0.0.1:{}", self.port)) }
    }

    fn wait(&mut self) {
        let port = self.port;
        until("mosquitto to listen", || {
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "mosquitto ended: {ended:?}; is port {port} taken?");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again until something is so; a bench that waits for two minutes has failed.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < give_up, "waited for {what}, which does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Debian puts mosquitto where only root looks for programs.
fn program() -> &'static str {
    match std::path::Path::new("/usr/sbin/mosquitto").exists() {
        true => "/usr/sbin/mosquitto",
        false => "mosquitto",
    }
}
