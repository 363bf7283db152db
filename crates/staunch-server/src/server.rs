//! From configuration to a running node, and back down.

use std::{
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use staunch_amqp_connection::CONSUMERS_PER_CHANNEL_MAX;
use staunch_broker::{CatalogLimits, PermissionPatterns, QueueKind};
use staunch_http::{EventLog, Interface, SharedStatistics};
use staunch_log::{RealDisk, RecoverError};
use staunch_node::{
    ClusterConfig, FirstUser, Input, LivenessConfig, NodeConfig, NodeLimits, StartError,
};
use staunch_peer::{Peers, Question};
use staunch_types::{Name, Secret};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};

use crate::{
    arrival::{Door, TlsDoor},
    banner::{self, Bound},
    clock::Clock,
    cluster,
    config::{
        Address, Config, Listen, NodeName,
        access::{AmqpListener, DefaultQueueType, Limit, TlsVerify},
    },
    definitions,
    fatal::{EXIT_CONFIG, EXIT_DATA_REFUSED, EXIT_DISK_FAILED},
    histories, http,
    listener::{self, Shared},
    logging, questions, resources,
    runtime::{self, NodeHandle, PeerInbox, Stopped},
    tls::{
        self, ClientCertificates,
        reload::{Hangups, Reloader},
    },
    traffic::Gauges,
};

/// How long a node that has stopped waits for HTTP clients to take their last answers.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs a node until a signal stops it.
///
/// # Errors
/// When an address cannot be bound or a thread not be started. A data directory that is refused
/// is reported in the log and by the exit code.
pub fn run(config: Config) -> anyhow::Result<ExitCode> {
    let events = EventLog::default();
    logging::start(&config, events.clone()).context("start logging")?;
    let clock = Clock::start();
    let started = Instant::now();
    let disk = RealDisk::open(&config.data_dir).context("open the data directory")?;
    let incarnation = seed();
    let node_config = node_config(&config, clock, incarnation);
    let recovered = match staunch_node::recover(disk, node_config) {
        Ok(recovered) => recovered,
        Err(error) => return Ok(ExitCode::from(report(&error))),
    };
    for note in &recovered.notes {
        tracing::warn!(event = "log.recovered", note = %note, "recovery");
    }
    for (queue, damage) in &recovered.repairs {
        let queue = queue.0;
        tracing::error!(
            event = "queue.damaged",
            queue,
            %damage,
            "a replica is damaged: the other nodes repair it"
        );
    }
    if recovered.lost_count > 0 {
        let lost = recovered.lost_count;
        tracing::error!(event = "messages.lost", lost, "damaged messages are lost");
    }
    tracing::info!(
        event = "node.recovered",
        queues = recovered.node.queue_count(),
        messages = recovered.node.message_count(),
        milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "recovered"
    );
    let is_new = recovered.node.is_new_to_cluster();
    let (handle, stopped) = runtime::start(
        recovered.node,
        recovered.writer,
        recovered.background,
        recovered.reader,
        clock,
        incarnation,
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(
        config,
        clock,
        (handle, stopped),
        (incarnation, is_new),
        events,
    ))
}

async fn serve(
    config: Config,
    clock: Clock,
    (node, stopped): (NodeHandle, Stopped),
    (incarnation, is_new): (u64, bool),
    events: EventLog,
) -> anyhow::Result<ExitCode> {
    let (asked, questions) = mpsc::channel(questions::WAITING_MAX);
    let peers = match connect_peers(&config, &node, (incarnation, is_new), asked) {
        Ok(peers) => peers,
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(
                event = "peer.refused",
                error,
                "the node cannot join its cluster"
            );
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    let (stop, stopping) = watch::channel(false);
    let shared = Shared {
        node: node.clone(),
        clock,
        connection_config: Arc::new(connection_config(&config)),
        seed: seed(),
        gauges: Gauges::default(),
        stopping,
    };
    // Before anyone can connect: what is declared there, and who may come in.
    let loaded = definitions::load(&config, &http::port(&node)).await;
    loaded.context("load definitions")?;
    let statistics = SharedStatistics::default();
    histories::restore(&config.data_dir, &statistics);
    let (bound, interface, serving) =
        open_doors(&config, &shared, &statistics, peers.clone(), events)?;
    questions::answer(interface, questions)?;
    let keeping = histories::keep(config.data_dir.clone(), statistics.clone());
    tokio::spawn(keeping);
    tokio::spawn(resources::watch(config.data_dir.clone(), node.clone()));
    banner::announce(&config, &bound);
    // Whoever waits for the ready line may send a signal right after it.
    let signals = Signals::listen()?;
    banner::ready();
    signals.stop().await;
    tracing::info!(event = "node.stopping", "stopping");
    if stop.send(true).is_err() {
        tracing::debug!(event = "listener.gone", "no listener was left to stop");
    }
    node.tell(Input::Stop);
    stopped.wait().await;
    histories::save(config.data_dir.clone(), statistics).await;
    if time::timeout(LAST_ANSWERS_TIMEOUT, serving.join_all())
        .await
        .is_err()
    {
        tracing::debug!(event = "http.abandoned", "answers were still on their way");
    }
    if let Some(peers) = peers {
        peers.stop().await;
    }
    tracing::info!(
        event = "node.stopped",
        "stopped: everything confirmed is on disk"
    );
    Ok(ExitCode::SUCCESS)
}

/// Links with the other nodes, if the configuration names any.
fn connect_peers(
    config: &Config,
    node: &NodeHandle,
    (incarnation, is_new): (u64, bool),
    asked: mpsc::Sender<Question>,
) -> anyhow::Result<Option<Peers<PeerInbox>>> {
    if config.seed.0.is_empty() {
        return Ok(None);
    }
    let peers = node
        .connect(|inbox| cluster::start_peers(config, (incarnation, is_new), inbox, Some(asked)))?;
    let seeds = config
        .seed
        .0
        .iter()
        .map(|(node, _)| node.as_str().to_owned());
    tokio::spawn(cluster::keep_links(
        peers.clone(),
        node.addresses(),
        seeds.collect(),
    ));
    if let Some(files) = cluster::identity_in_use(config) {
        let hangups = Hangups::listen().context("listen for SIGHUP")?;
        let interval = config.tls_reload_interval;
        tokio::spawn(cluster::watch_identity(
            peers.clone(),
            files,
            interval,
            hangups,
        ));
    }
    Ok(Some(peers))
}

/// Opens every listener, or none of them is of use.
fn open_doors(
    config: &Config,
    shared: &Shared,
    statistics: &SharedStatistics,
    peers: Option<Peers<PeerInbox>>,
    events: EventLog,
) -> anyhow::Result<(Bound, Interface, JoinSet<()>)> {
    let proxied = |listener| config.proxy_protocol.0.contains(&listener);
    let accept = |listen_at: &Listen, door: Door, what: &str| -> anyhow::Result<Vec<SocketAddr>> {
        let listeners = bind(listen_at, what)?;
        let addresses: io::Result<_> = listeners.iter().map(TcpListener::local_addr).collect();
        for listener in listeners {
            let (door, shared) = (door.clone(), shared.clone());
            tokio::spawn(listener::accept(listener, door, shared));
        }
        Ok(addresses?)
    };
    let plain = Door {
        proxy_protocol: proxied(AmqpListener::Plain),
        tls: None,
    };
    let mut bound = Bound {
        amqp: accept(&config.amqp, plain, "AMQP")?,
        ..Bound::default()
    };
    if let Some(options) = tls_options(config) {
        let reloader = Reloader::start(options).context("TLS")?;
        let door = Door {
            proxy_protocol: proxied(AmqpListener::Tls),
            tls: Some(TlsDoor {
                config: reloader.config(),
                handshake_timeout: config.tls_handshake_timeout,
                login_from: config.tls_login_from,
            }),
        };
        bound.amqps = accept(&config.amqps, door, "AMQP over TLS")?;
        let hangups = Hangups::listen().context("listen for SIGHUP")?;
        tokio::spawn(reloader.watch(config.tls_reload_interval, hangups));
    }
    let addresses = |listeners: &[TcpListener]| -> io::Result<Vec<SocketAddr>> {
        listeners.iter().map(TcpListener::local_addr).collect()
    };
    let listeners = bind(&config.http, "HTTP")?;
    bound.http = addresses(&listeners)?;
    let scraped = bind(&config.metrics, "metrics")?;
    bound.metrics = addresses(&scraped)?;
    let gauges = shared.gauges.clone();
    let keeping = statistics.clone().keep(
        http::port(&shared.node),
        config.collect_statistics_interval,
        move || gauges.read(),
    );
    tokio::spawn(keeping);
    let (interface, metrics) =
        http::interface(config, &bound, shared, statistics.clone(), peers, events)?;
    let router = staunch_web::page(interface.router());
    let mut serving = JoinSet::new();
    for listener in listeners {
        serving.spawn(http::serve(
            listener,
            router.clone(),
            shared.stopping.clone(),
        ));
    }
    for listener in scraped {
        serving.spawn(http::serve(
            listener,
            metrics.clone(),
            shared.stopping.clone(),
        ));
    }
    Ok((bound, interface, serving))
}

pub(crate) fn bind(listen_at: &Listen, what: &str) -> anyhow::Result<Vec<TcpListener>> {
    let addresses = listen_at
        .resolve()
        .with_context(|| format!("resolve the address for {what}"))?;
    let bind = |address: SocketAddr| {
        listen(address)
            .with_context(|| format!("listen for {what} on {address}: is it in use already?"))
    };
    addresses.into_iter().map(bind).collect()
}

fn tls_options(config: &Config) -> Option<tls::Options> {
    let clients = match (config.tls_verify, config.tls_fail_if_no_peer_cert) {
        (TlsVerify::None, _) => ClientCertificates::Ignored,
        (TlsVerify::Peer, false) => ClientCertificates::Optional,
        (TlsVerify::Peer, true) => ClientCertificates::Required,
    };
    Some(tls::Options {
        certificate: config.tls_certificate.clone()?,
        key: config.tls_key.clone()?,
        authorities: config.tls_ca.clone(),
        clients,
        versions: config.tls_versions.0.clone(),
    })
}

/// The signals that stop a node cleanly.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self {
            terminate,
            interrupt,
        })
    }

    async fn stop(mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Connections that may wait to be accepted.
const ACCEPT_BACKLOG_MAX: u32 = 4096;

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    // A restart must not wait for the connections of the process before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(ACCEPT_BACKLOG_MAX)?)
}

fn node_config(config: &Config, clock: Clock, incarnation: u64) -> NodeConfig {
    let log = log_config(config);
    let name = |text: &str| Name::new(text.as_bytes()).expect("the setting was checked");
    let names = |texts: &[String]| texts.iter().map(|text| name(text)).collect::<Vec<_>>();
    let first_user = FirstUser {
        name: name(&config.default_user),
        password: Secret(config.default_pass.reveal().as_bytes().to_vec()),
        tags: names(&config.default_user_tags.0),
        vhost: name(&config.default_vhost),
        permissions: PermissionPatterns {
            configure: config.default_permission_configure.clone(),
            write: config.default_permission_write.clone(),
            read: config.default_permission_read.clone(),
        },
    };
    NodeConfig {
        memory_limit_size_bytes: config.memory_limit.size_bytes(),
        disk_free_limit_size_bytes: config
            .disk_free_limit
            .size_bytes(u64::from(log.file_size_bytes)),
        node_name: config.node_name.as_str().to_owned(),
        // Definitions that are loaded at the start bring their own users.
        first_user: config.load_definitions.is_none().then_some(first_user),
        loopback_users: names(&config.loopback_users.0).into_iter().collect(),
        anonymous_user: Some(name(&config.anonymous_user)),
        password_hashing: http::hashing(config.password_hashing),
        limits: NodeLimits {
            connections_max: config.connection_max.most(),
            channels_max: config.channel_max_per_node.most(),
        },
        catalog_limits: catalog_limits(config),
        accept_loss: config.accept_loss,
        seed: seed(),
        started_at: clock.started_at(),
        log,
        cluster: cluster_config(config, incarnation),
    }
}

fn cluster_config(config: &Config, incarnation: u64) -> Option<ClusterConfig> {
    if config.seed.0.is_empty() {
        return None;
    }
    let name =
        |node: &NodeName| Name::new(node.as_str().as_bytes()).expect("the setting was checked");
    let seed = |(node, address): &(NodeName, Address)| {
        // One that is too long for a name is for this node's own use only.
        let address = Name::new(address.to_string().as_bytes()).unwrap_or_default();
        (name(node), address)
    };
    Some(ClusterConfig {
        me: name(&config.node_name),
        seeds: config.seed.0.iter().map(seed).collect(),
        replica_repair_after: (!config.replica_repair_after.is_zero())
            .then_some(config.replica_repair_after),
        primary: Name::new(config.primary_node.as_bytes())
            .ok()
            .filter(|primary| !primary.is_empty()),
        is_witness: config.witness,
        incarnation,
        liveness: LivenessConfig::default(),
    })
}

fn catalog_limits(config: &Config) -> CatalogLimits {
    let most = |limit: Limit, unless_said: usize| {
        let limit = limit.most();
        limit.map_or(unless_said, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        })
    };
    let unless_said = CatalogLimits::default();
    CatalogLimits {
        vhosts_max: most(config.vhost_max, unless_said.vhosts_max),
        exchanges_max: most(config.exchange_max, unless_said.exchanges_max),
        queues_max: most(config.queue_max, unless_said.queues_max),
        default_queue_type: match config.default_queue_type {
            DefaultQueueType::Auto if config.seed.0.is_empty() => QueueKind::Classic,
            DefaultQueueType::Classic => QueueKind::Classic,
            DefaultQueueType::Auto | DefaultQueueType::Quorum => QueueKind::Quorum,
        },
        ..unless_said
    }
}

fn log_config(config: &Config) -> staunch_log::Config {
    staunch_log::Config {
        cache_size_bytes: config.memory_limit.size_bytes() / 4,
        ..staunch_log::Config::default()
    }
}

fn connection_config(config: &Config) -> staunch_amqp_connection::Config {
    staunch_amqp_connection::Config {
        frame_max: config.frame_max,
        channel_max: config.channel_max,
        heartbeat: config.heartbeat,
        handshake_timeout: config.handshake_timeout,
        mechanisms: config.auth_mechanisms.0.clone(),
        consumer_timeout: (!config.consumer_timeout.is_zero()).then_some(config.consumer_timeout),
        body_size_bytes_max: usize::try_from(config.max_message_size.0).unwrap_or(usize::MAX),
        consumers_per_channel_max: consumers_per_channel_max(config),
        product: config.product.clone(),
        version: config.product_version.clone(),
        cluster_name: config.node_name.as_str().to_owned(),
        ..staunch_amqp_connection::Config::default()
    }
}

fn consumers_per_channel_max(config: &Config) -> usize {
    let limit = config.consumer_max_per_channel.most();
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(CONSUMERS_PER_CHANNEL_MAX, |limit| {
        limit.min(CONSUMERS_PER_CHANNEL_MAX)
    })
}

/// What hash functions, generated names and secrets start from: nobody else can know it.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Says why the node does not start, and which exit code that is.
fn report(error: &StartError) -> u8 {
    if let StartError::Log(RecoverError::Disk(failed)) = error {
        tracing::error!(event = "disk.failed", error = %failed, "disk failed: the node stops");
        return EXIT_DISK_FAILED;
    }
    tracing::error!(event = "node.refused", %error, "the data directory is refused");
    EXIT_DATA_REFUSED
}
