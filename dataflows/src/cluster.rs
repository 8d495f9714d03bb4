//! Several processes that run one job: how they find each other (rule 7.7).
//!
//! ```text
//!  process 0 owns the data folder, and knows the generation
//!  process k ── hello(job, shape, k) ──► process 0 ── welcome(generation, checkpoint) ──► k
//!  process k ── hello(.., generation) ──► processes 1..k      then k listens for k+1..
//! ```
//!
//! Each pair of processes has one socket. Once it has been greeted it is handed to timely, which
//! knows no greeting of its own that would refuse a stranger. There is no encryption yet: the hosts
//! must be in one network that is trusted.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// Which processes there are, and which of them this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOptions {
    /// `host:port` of every process, the same list in each.
    pub hosts: Vec<String>,
    /// Number of this process in the list.
    pub process: usize,
}

/// Why the processes did not come together.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The list or the number is wrong.
    #[error("process {process} is not in a list of {hosts} hosts; number them from 0")]
    NoSuchProcess {
        /// Number that was asked for.
        process: usize,
        /// Length of the list.
        hosts: usize,
    },
    /// This process cannot listen.
    #[error("cannot listen on {address}: {error}; is the address of this process right, and free?")]
    Listen {
        /// Address of this process.
        address: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// A process did not answer.
    #[error(
        "process {process} at {address} did not answer within {seconds} s: {error}; start it with the same job and hosts file"
    )]
    Silent {
        /// Its number.
        process: usize,
        /// Its address.
        address: String,
        /// How long was waited.
        seconds: u64,
        /// The last error.
        error: std::io::Error,
    },
    /// Not all processes came.
    #[error("only {found} of {expected} later processes came within {seconds} s; start the others")]
    Missing {
        /// How many came.
        found: usize,
        /// How many should have.
        expected: usize,
        /// How long was waited.
        seconds: u64,
    },
    /// A process answered that it does not belong.
    #[error("process {process} at {address} refuses this one: {reason}")]
    Refused {
        /// Its number.
        process: usize,
        /// Its address.
        address: String,
        /// Why.
        reason: Refusal,
    },
}

/// Why one process refuses another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No greeting of Twinloom, or a damaged one.
    #[error("it did not greet as Twinloom does")]
    Stranger,
    /// Another version of the greeting.
    #[error("it runs another version of Twinloom")]
    Version,
    /// Another job.
    #[error("it runs another job, or the same with another definition")]
    Job,
    /// Another number of processes or workers.
    #[error("it was started with other hosts or another number of workers")]
    Shape,
    /// Another generation.
    #[error("it is of another generation; start all processes anew")]
    Generation,
}

/// What makes two processes belong to one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Digest of the job's definition.
    pub digest: u64,
    /// Number of processes.
    pub processes: u32,
    /// Number of workers in each.
    pub workers: u32,
    /// Generation of the run; 0 where it is not known yet.
    pub generation: u64,
    /// Generation and number of the checkpoint that the run goes on from; zeros where there is none, or it
    /// is not known yet.
    pub checkpoint: (u64, u64),
}

/// How long a process waits for the others.
const WAIT: Duration = Duration::from_secs(60);
/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(5);

/// Version of the greeting.
const VERSION: u16 = 2;
const MAGIC: [u8; 8] = *b"TWINLOOM";
const GREETING_BYTES: usize = 59;

/// Meets the other processes: their sockets in order, none for this one, and the run's identity, as
/// process 0 knows it.
pub fn meet(
    options: &ClusterOptions,
    mut identity: Identity,
) -> Result<(Vec<Option<TcpStream>>, Identity), ClusterError> {
    let ClusterOptions { hosts, process } = options;
    let process = *process;
    let Some(address) = hosts.get(process) else {
        return Err(ClusterError::NoSuchProcess { process, hosts: hosts.len() });
    };
    let listener = TcpListener::bind(address)
        .map_err(|error| ClusterError::Listen { address: address.clone(), error })?;
    let mut sockets: Vec<Option<TcpStream>> = Vec::new();
    for (other, address) in hosts.iter().enumerate().take(process) {
        let (socket, theirs) = greet(other, address, process, identity)?;
        (identity.generation, identity.checkpoint) = (theirs.generation, theirs.checkpoint);
        sockets.push(Some(socket));
    }
    sockets.push(None);
    sockets.extend(welcome_all(&listener, process, hosts.len(), identity)?);
    info!(process, processes = hosts.len(), generation = identity.generation, "processes have met");
    Ok((sockets, identity))
}

/// Connects to a lower process, until it is there.
fn greet(
    other: usize,
    address: &str,
    process: usize,
    identity: Identity,
) -> Result<(TcpStream, Identity), ClusterError> {
    let start = Instant::now();
    loop {
        let error = match greet_once(address, process, identity) {
            Ok(Ok(greeted)) => return Ok(greeted),
            Ok(Err(reason)) => {
                let address = address.to_owned();
                return Err(ClusterError::Refused { process: other, address, reason });
            }
            Err(error) => error,
        };
        if start.elapsed() > WAIT {
            let (address, seconds) = (address.to_owned(), WAIT.as_secs());
            return Err(ClusterError::Silent { process: other, address, seconds, error });
        }
        // The other process may not be listening yet.
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn greet_once(
    address: &str,
    process: usize,
    identity: Identity,
) -> std::io::Result<Result<(TcpStream, Identity), Refusal>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(GREETING))?;
    socket.write_all(&encode(identity, process as u32, None))?;
    let mut answer = [0; GREETING_BYTES];
    socket.read_exact(&mut answer)?;
    socket.set_read_timeout(None)?;
    Ok(match decode(&answer) {
        Ok((_, _, Some(refusal))) => Err(refusal),
        Ok((theirs, _, None)) => Ok((socket, theirs)),
        Err(refusal) => Err(refusal),
    })
}

/// Waits for the higher processes; strangers are turned away.
fn welcome_all(
    listener: &TcpListener,
    process: usize,
    processes: usize,
    identity: Identity,
) -> Result<Vec<Option<TcpStream>>, ClusterError> {
    let expected = processes - process - 1;
    let mut sockets: Vec<Option<TcpStream>> = (0..expected).map(|_| None).collect();
    let start = Instant::now();
    // Polled, so that the wait has an end.
    let _ = listener.set_nonblocking(true);
    while sockets.iter().any(Option::is_none) {
        match listener.accept() {
            Ok((socket, from)) => match welcome(socket, identity) {
                Ok((socket, other)) if other > process && other < processes => {
                    sockets[other - process - 1] = Some(socket);
                }
                Ok((_, other)) => warn!(%from, process = other, "process has no place here"),
                Err(error) => warn!(%from, %error, "turned away"),
            },
            Err(_) if start.elapsed() > WAIT => {
                let found = sockets.iter().flatten().count();
                return Err(ClusterError::Missing { found, expected, seconds: WAIT.as_secs() });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    Ok(sockets)
}

fn welcome(mut socket: TcpStream, ours: Identity) -> std::io::Result<(TcpStream, usize)> {
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(GREETING))?;
    let mut hello = [0; GREETING_BYTES];
    socket.read_exact(&mut hello)?;
    let verdict = decode(&hello).and_then(|(theirs, process, _)| match () {
        () if theirs.digest != ours.digest => Err(Refusal::Job),
        () if (theirs.processes, theirs.workers) != (ours.processes, ours.workers) => Err(Refusal::Shape),
        () if ![0, ours.generation].contains(&theirs.generation) => Err(Refusal::Generation),
        () => Ok(process as usize),
    });
    socket.write_all(&encode(ours, 0, verdict.err()))?;
    socket.set_read_timeout(None)?;
    verdict.map(|process| (socket, process)).map_err(std::io::Error::other)
}

/// Magic, version, refusal, digest, processes, workers, process, generation, checkpoint, checksum.
fn encode(identity: Identity, process: u32, refusal: Option<Refusal>) -> [u8; GREETING_BYTES] {
    let mut bytes = Vec::with_capacity(GREETING_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.push(match refusal {
        None => 0,
        Some(Refusal::Stranger) => 1,
        Some(Refusal::Version) => 2,
        Some(Refusal::Job) => 3,
        Some(Refusal::Shape) => 4,
        Some(Refusal::Generation) => 5,
    });
    bytes.extend_from_slice(&identity.digest.to_le_bytes());
    bytes.extend_from_slice(&identity.processes.to_le_bytes());
    bytes.extend_from_slice(&identity.workers.to_le_bytes());
    bytes.extend_from_slice(&process.to_le_bytes());
    bytes.extend_from_slice(&identity.generation.to_le_bytes());
    bytes.extend_from_slice(&identity.checkpoint.0.to_le_bytes());
    bytes.extend_from_slice(&identity.checkpoint.1.to_le_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.try_into().expect("the fields have the length of a greeting")
}

type Greeting = (Identity, u32, Option<Refusal>);

fn decode(bytes: &[u8; GREETING_BYTES]) -> Result<Greeting, Refusal> {
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    if bytes[..8] != MAGIC {
        return Err(Refusal::Stranger);
    }
    if bytes[8..10] != VERSION.to_le_bytes() {
        return Err(Refusal::Version);
    }
    if u32_at(GREETING_BYTES - 4) != crc32fast::hash(&bytes[..GREETING_BYTES - 4]) {
        return Err(Refusal::Stranger);
    }
    let refusal = match bytes[10] {
        0 => None,
        2 => Some(Refusal::Version),
        3 => Some(Refusal::Job),
        4 => Some(Refusal::Shape),
        5 => Some(Refusal::Generation),
        _ => Some(Refusal::Stranger),
    };
    let identity = Identity {
        digest: u64_at(11),
        processes: u32_at(19),
        workers: u32_at(23),
        generation: u64_at(31),
        checkpoint: (u64_at(39), u64_at(47)),
    };
    Ok((identity, u32_at(27), refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        digest: 0x0102_0304_0506_0708,
        processes: 3,
        workers: 2,
        generation: 9,
        checkpoint: (8, 17),
    };

    #[test]
    fn the_greeting_is_a_format() {
        let golden = "5457494e4c4f4f4d0200000807060504030201030000000200000001000000\
                      090000000000000008000000000000001100000000000000";
        let bytes = encode(IDENTITY, 1, None);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hex[..golden.len()], golden);
        assert_eq!(decode(&bytes), Ok((IDENTITY, 1, None)));
    }

    #[test]
    fn a_damaged_greeting_is_a_strangers() {
        let good = encode(IDENTITY, 1, Some(Refusal::Job));
        assert_eq!(decode(&good), Ok((IDENTITY, 1, Some(Refusal::Job))));
        for byte in 0..GREETING_BYTES {
            let mut bytes = good;
            bytes[byte] ^= 1;
            assert!(decode(&bytes).is_err(), "byte {byte}");
        }
    }

    /// Two processes on free ports; what each came to.
    fn meet_two(theirs: Identity) -> (Result<u64, String>, Result<u64, String>) {
        let port = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("it is bound").to_string()
        };
        let hosts = vec![port(), port()];
        let options = |process| ClusterOptions { hosts: hosts.clone(), process };
        let came_to = |met: Result<(Vec<Option<TcpStream>>, Identity), ClusterError>| {
            met.map(|(_, identity)| identity.generation).map_err(|error| error.to_string())
        };
        let (first, second) = (options(0), options(1));
        let ours = Identity { processes: 2, ..IDENTITY };
        let first = std::thread::spawn(move || came_to(meet(&first, ours)));
        let second = came_to(meet(&second, theirs));
        if second.is_err() {
            // The first would wait on for one that belongs: this one does.
            let last = meet(&options(1), Identity { generation: 0, ..ours });
            assert!(last.is_ok(), "{last:?}");
        }
        (first.join().expect("it does not panic"), second)
    }

    #[test]
    fn rule_7_7_others_learn_the_generation_and_strangers_are_refused() {
        let ours = Identity { processes: 2, generation: 0, ..IDENTITY };
        assert_eq!(meet_two(ours), (Ok(9), Ok(9)));
        for (theirs, reason) in [
            (Identity { digest: 1, ..ours }, Refusal::Job),
            (Identity { workers: 4, ..ours }, Refusal::Shape),
            (Identity { generation: 8, ..ours }, Refusal::Generation),
        ] {
            let (first, second) = meet_two(theirs);
            assert_eq!(first, Ok(9));
            assert!(second.expect_err("refused").ends_with(&reason.to_string()));
        }
    }
}
