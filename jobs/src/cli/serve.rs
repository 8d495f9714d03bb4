//! `twinloom serve`: runs the jobs that are applied, until Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use connectors::folder::DataFolder;
use tracing::info;

use super::remote::ADDRESS_DEFAULT;
use super::{Failure, values};
use crate::job::JobError;
use crate::live::Board;
use crate::server::{self, Server};
use crate::service::{Service, Tenants, TenantsError};
use crate::signals::Signals;

/// The name under which a server owns its folder.
const OWNER: &str = "twinloom-server";

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// Where jobs and their data are kept
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The loopback address to answer on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = ADDRESS_DEFAULT)]
    listen: SocketAddr,
    /// Workers, which all jobs share [default: all cores, at most 8]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// What each tenant's jobs may have together: a file with lines such as
    /// `acme: {jobs: 10, twins: 1000000, events: 50000/s, bytes: 10MB/s}`
    #[arg(long, value_name = "FILE")]
    tenants: Option<PathBuf>,
}

pub(super) fn execute(arguments: &ServeArguments) -> Result<(), Failure> {
    server::check(arguments.listen).map_err(|error| Failure::Usage(error.to_string()))?;
    let signals = Signals::listen().map_err(Failure::of)?;
    // Two servers on one folder would run each job twice.
    let _folder = DataFolder::open(&arguments.data, OWNER).map_err(Failure::of)?;
    let workers = arguments.workers.map_or_else(values::workers_default, usize::from);
    let tenants = match arguments.tenants.as_deref().map(Tenants::read) {
        None => Tenants::default(),
        Some(Ok(tenants)) => tenants,
        Some(Err(TenantsError::Invalid(findings))) => {
            return Err(Failure::of_job(JobError::Invalid(findings), false));
        }
        Some(Err(error)) => return Err(Failure::of(error)),
    };
    let board = Arc::new(Board::default());
    let service = Service::start(&arguments.data, workers, tenants, board.clone()).map_err(Failure::of)?;
    let server =
        Server::start(arguments.listen, board.clone(), Some(service.clone())).map_err(Failure::of)?;
    eprintln!("serving http://{}/ with {} jobs; Ctrl-C ends", server.address(), board.all().len());
    while !signals.wait(Duration::from_secs(3600)) {}
    info!("ending");
    server.ending();
    service.end();
    Ok(())
}
