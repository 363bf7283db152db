//! `rabbitmq-diagnostics`: how a node is. What `rabbitmqctl` knows beside its own commands, too.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;

use crate::{
    cli::{
        failure::Exit,
        output,
        target::{Target, path},
    },
    rabbit::{
        call::{Call, Stop},
        ctl, exit,
        lists::show,
    },
};

/// Longest wait for a port to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn run(arguments: Vec<String>) -> ExitCode {
    match Call::parse(arguments).and_then(|call| ctl::dispatch(&call)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => stop.report(),
    }
}

pub(crate) fn dispatch(call: &Call) -> Result<(), Stop> {
    let node = Node::new(call);
    match call.command.as_str() {
        "ping" => node?.ping(),
        "check_running" => node?.check_running(),
        "check_port_connectivity" => node?.check_ports(),
        "check_port_listener" => node?.check_port(),
        "check_protocol_listener" => node?.check_protocol(),
        "check_local_alarms" | "check_alarms" | "alarms" => node?.alarms(),
        "check_virtual_hosts" => node?.check_vhosts(),
        "check_if_node_is_quorum_critical" => node?.check_quorum(),
        "node_health_check" => node?.check_health(),
        "listeners" => node?.listeners(),
        "server_version" => node?.version(),
        "status" => node?.status(),
        "cluster_status" => node?.cluster_status(),
        "help" | "version" => {
            output::text(&format!("{}\n", env!("CARGO_PKG_VERSION")))?;
            Ok(())
        }
        _ => Err(ctl::unknown(call)),
    }
}

/// The node that is asked.
struct Node<'a> {
    call: &'a Call,
    target: Target,
    name: String,
}

impl<'a> Node<'a> {
    fn new(call: &'a Call) -> Result<Self, Stop> {
        let target = call.target()?;
        let mut name = call.option("node").unwrap_or_default().to_owned();
        // A ping needs no login, and nothing else does without.
        let is_named =
            call.command == "ping" || call.command == "version" || call.command == "help";
        if !is_named {
            let overview = target.get("overview?columns=node");
            if let Ok(overview) = &overview {
                overview["node"]
                    .as_str()
                    .unwrap_or_default()
                    .clone_into(&mut name);
            }
            if overview
                .as_ref()
                .is_err_and(|it| it.exit == Exit::Unreachable)
            {
                let text = format!(
                    "unable to perform an operation on node at {}",
                    target.resolved.node
                );
                return Err(Stop::new(exit::UNAVAILABLE, text));
            }
            overview?;
        }
        Ok(Self { call, target, name })
    }

    fn ping(&self) -> Result<(), Stop> {
        let node = &self.target.resolved.node;
        self.call.say(&format!("Will ping {node}."))?;
        self.target.check("health/checks/is-in-service")?;
        Ok(output::text("Ping succeeded\n")?)
    }

    fn check_running(&self) -> Result<(), Stop> {
        let name = &self.name;
        self.call.say(&format!(
            "Checking if RabbitMQ is running on node {name} ..."
        ))?;
        self.passed(
            "health/checks/is-in-service",
            &format!("RabbitMQ on node {name} is fully booted and running"),
        )
    }

    fn alarms(&self) -> Result<(), Stop> {
        let name = &self.name;
        let (what, none) = if self.call.command == "check_local_alarms" {
            ("any local resource alarms", "reported no local alarms")
        } else {
            (
                "any known resource alarms",
                "reported no alarms, local or clusterwide",
            )
        };
        self.call
            .say(&format!("Asking node {name} to report {what} ..."))?;
        let (is_well, said) = self.target.check("health/checks/alarms")?;
        if is_well {
            return Ok(output::text(&format!("Node {name} {none}\n"))?);
        }
        let alarms = said["alarms"].as_array().cloned().unwrap_or_default();
        let lines = alarms.iter().map(|alarm| {
            let resource = alarm["resource"].as_str().unwrap_or_default();
            format!("{resource} alarm on node {name}\n")
        });
        let text = format!(
            "Node {name} reported alarms:\n{}",
            lines.collect::<String>()
        );
        if self.call.command == "alarms" {
            return Ok(output::text(&text)?);
        }
        Err(Stop::new(exit::UNAVAILABLE, text.trim_end()))
    }

    fn check_vhosts(&self) -> Result<(), Stop> {
        let name = &self.name;
        self.call.say(&format!(
            "Checking if all vhosts are running on node {name} ..."
        ))?;
        self.passed(
            "health/checks/virtual-hosts",
            &format!("Node {name} reported all vhosts as running"),
        )
    }

    fn check_quorum(&self) -> Result<(), Stop> {
        let name = &self.name;
        self.call.say(&format!(
            "Checking if node {name} is critical for quorum of any quorum queues ..."
        ))?;
        self.passed(
            "health/checks/node-is-quorum-critical",
            &format!("Node {name} reported no quorum queues with minimum quorum"),
        )
    }

    fn check_health(&self) -> Result<(), Stop> {
        self.call
            .say(&format!("Checking health of node {} ...", self.name))?;
        self.passed("healthchecks/node", "Health check passed")
    }

    fn check_ports(&self) -> Result<(), Stop> {
        let name = &self.name;
        self.call.say(&format!(
            "Testing TCP connections to all active listeners on node {name} ..."
        ))?;
        let mut ports = Vec::new();
        for listener in self.all_listeners()? {
            let port = listener["port"].as_u64().unwrap_or_default();
            let address = listener["ip_address"].as_str().unwrap_or_default();
            let address = address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let address = if address.is_unspecified() {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            } else {
                address
            };
            let place = SocketAddr::new(address, u16::try_from(port).unwrap_or_default());
            if let Err(error) = TcpStream::connect_timeout(&place, CONNECT_TIMEOUT) {
                let text = format!("Connection to port {port} of node {name} failed: {error}");
                return Err(Stop::new(exit::UNAVAILABLE, text));
            }
            ports.push(port.to_string());
        }
        Ok(output::text(&format!(
            "Successfully connected to ports {} on node {name}.\n",
            ports.join(", ")
        ))?)
    }

    fn check_port(&self) -> Result<(), Stop> {
        let (name, port) = (&self.name, self.call.argument(0)?);
        self.call.say(&format!(
            "Asking node {name} if there's an active listener on port {port} ..."
        ))?;
        let (is_there, said) =
            self.target
                .check(&path(&["health", "checks", "port-listener", port]))?;
        if is_there {
            let text = format!("A listener for port {port} is running on node {name}.\n");
            return Ok(output::text(&text)?);
        }
        let ports = said["ports"].as_array().cloned().unwrap_or_default();
        let ports: Vec<_> = ports.iter().map(Value::to_string).collect();
        let text = format!(
            "No listener for port {port} is active on node {name}. Found listeners that use the \
             following ports: {}",
            ports.join(", ")
        );
        Err(Stop::new(exit::UNAVAILABLE, text))
    }

    fn check_protocol(&self) -> Result<(), Stop> {
        let (name, protocol) = (&self.name, self.call.argument(0)?);
        self.call.say(&format!(
            "Asking node {name} if there's an active listener for protocol {protocol} ..."
        ))?;
        self.passed(
            &path(&["health", "checks", "protocol-listener", protocol]),
            &format!("A listener for protocol {protocol} is running on node {name}."),
        )
    }

    fn listeners(&self) -> Result<(), Stop> {
        self.call.say(&format!(
            "Asking node {} to report its protocol listeners ...",
            self.name
        ))?;
        self.say_listeners()
    }

    fn version(&self) -> Result<(), Stop> {
        let name = &self.name;
        self.call
            .say(&format!("Asking node {name} for its RabbitMQ version..."))?;
        let overview = self.target.get("overview")?;
        let version = overview["rabbitmq_version"].as_str().unwrap_or_default();
        Ok(output::text(&format!("{version}\n"))?)
    }

    fn status(&self) -> Result<(), Stop> {
        self.call
            .say(&format!("Status of node {} ...", self.name))?;
        let overview = self.target.get("overview")?;
        let node = self.target.get(&path(&["nodes", &self.name]))?;
        if self.call.option("formatter") == Some("json") {
            output::json(&node)?;
            return Ok(());
        }
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let uptime_seconds = node["uptime"].as_u64().unwrap_or_default() / 1_000;
        let mut lines = vec![
            "Runtime\n".to_owned(),
            format!("OS PID: {}", text(&node["os_pid"])),
            format!("Uptime (seconds): {uptime_seconds}"),
            format!("Is under maintenance?: {}", node["being_drained"]),
            format!("RabbitMQ version: {}", text(&overview["rabbitmq_version"])),
            format!("Staunch version: {}", text(&overview["staunch_version"])),
            format!("Node name: {}", self.name),
            "\nData directory\n".to_owned(),
            format!("Node data directory: {}", text(&node["db_dir"])),
            "\nMemory\n".to_owned(),
            format!("Total memory used: {} bytes", node["mem_used"]),
            format!("Memory high watermark: {} bytes", node["mem_limit"]),
            format!("Memory alarm: {}", node["mem_alarm"]),
            "\nFile Descriptors\n".to_owned(),
            format!("Total: {}, limit: {}", node["fd_used"], node["fd_total"]),
            "\nFree Disk Space\n".to_owned(),
            format!(
                "Low free disk space watermark: {} bytes",
                node["disk_free_limit"]
            ),
            format!("Free disk space: {} bytes", node["disk_free"]),
            format!("Disk alarm: {}", node["disk_free_alarm"]),
            "\nTotals\n".to_owned(),
        ];
        let totals = &overview["object_totals"];
        lines.push(format!("Connection count: {}", totals["connections"]));
        lines.push(format!("Queue count: {}", totals["queues"]));
        lines.push("\nListeners\n".to_owned());
        output::text(&(lines.join("\n") + "\n"))?;
        self.say_listeners()
    }

    fn say_listeners(&self) -> Result<(), Stop> {
        for listener in self.all_listeners()? {
            let text = |key: &str| listener[key].as_str().unwrap_or_default().to_owned();
            let purpose = match text("protocol").as_str() {
                "amqp" => "AMQP 0-9-1",
                "amqp/ssl" => "AMQP 0-9-1 over TLS",
                "http" => "HTTP API",
                "http/prometheus" => "Prometheus exporter API over HTTP",
                _ => "inter-node communication",
            };
            output::text(&format!(
                "Interface: {}, port: {}, protocol: {}, purpose: {purpose}\n",
                text("ip_address"),
                listener["port"],
                text("protocol")
            ))?;
        }
        Ok(())
    }

    fn cluster_status(&self) -> Result<(), Stop> {
        self.call
            .say(&format!("Cluster status of node {} ...", self.name))?;
        let overview = self.target.get("overview?columns=cluster_name")?;
        let nodes = self.target.get_list("nodes")?;
        if self.call.option("formatter") == Some("json") {
            let columns = ["name", "running", "being_drained"].map(str::to_owned);
            let rows = nodes.iter().map(|node| {
                let row = columns.iter().map(|column| node[column].clone());
                row.collect()
            });
            return show(self.call, &columns, &rows.collect::<Vec<_>>());
        }
        let names = |is_wanted: fn(&Value) -> bool| {
            let wanted = nodes.iter().filter(|node| is_wanted(node));
            let names: Vec<_> = wanted.filter_map(|node| node["name"].as_str()).collect();
            names.join("\n")
        };
        let cluster = overview["cluster_name"].as_str().unwrap_or_default();
        let maintenance = nodes.iter().map(|node| {
            let status = if node["being_drained"] == true {
                "marked for maintenance"
            } else {
                "not under maintenance"
            };
            format!(
                "Node: {}, status: {status}\n",
                node["name"].as_str().unwrap_or_default()
            )
        });
        Ok(output::text(&format!(
            "Basics\n\nCluster name: {cluster}\n\nDisk Nodes\n\n{}\n\nRunning Nodes\n\n{}\n\n\
             Maintenance status\n\n{}",
            names(|_| true),
            names(|node| node["running"] == true),
            maintenance.collect::<String>()
        ))?)
    }

    fn all_listeners(&self) -> Result<Vec<Value>, Stop> {
        let overview = self.target.get("overview?columns=listeners")?;
        Ok(overview["listeners"]
            .as_array()
            .cloned()
            .unwrap_or_default())
    }

    /// Says that a check has passed, or why it has not.
    fn passed(&self, check: &str, text: &str) -> Result<(), Stop> {
        let (is_well, said) = self.target.check(check)?;
        if is_well {
            return Ok(output::text(&format!("{text}\n"))?);
        }
        let reason = said["reason"].as_str().unwrap_or("the check has failed");
        Err(Stop::new(exit::UNAVAILABLE, reason))
    }
}
