use staunch_amqp_connection::Mechanism;

use super::*;

fn sources(toml: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Sources {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Sources {
        file: Some(("staunch.toml".into(), toml.to_owned())),
        environment: environment.iter().map(owned).collect(),
        flags: flags
            .iter()
            .map(|(key, text)| (*key, (*text).to_owned()))
            .collect(),
    }
}

#[track_caller]
fn check_errors(sources: &Sources, expected: &str) {
    let errors = resolve(sources)
        .expect_err("the configuration is wrong")
        .to_string();
    assert_eq!(errors, expected, "\n{errors}");
}

fn shown_address(listen: &Listen) -> String {
    match listen {
        Listen::Off => "off".to_owned(),
        Listen::At(address) => address.to_string(),
    }
}

#[test]
fn defaults_are_rabbitmqs_ports_and_half_the_memory() {
    let loaded = resolve(&Sources::default()).unwrap();
    let config = &loaded.config;
    for (listen, address) in [
        (&config.amqp, "0.0.0.0:5672"),
        (&config.amqps, "0.0.0.0:5671"),
        (&config.http, "0.0.0.0:15672"),
        (&config.metrics, "0.0.0.0:15692"),
    ] {
        assert_eq!(shown_address(listen), address);
    }
    assert_eq!(config.peer.port, 25672);
    assert_eq!(config.memory_limit, MemoryLimit::Percent(50));
    let limit = config.memory_limit.size_bytes();
    assert_eq!(limit, values::machine_memory_size_bytes() / 100 * 50);
    assert_eq!(config.disk_free_limit.size_bytes(64 << 20), 256 << 20);
    assert_eq!(config.disk_free_limit.size_bytes(256 << 20), 512 << 20);
    assert!(config.node_name.as_str().starts_with("staunch@"));
    assert_eq!(loaded.text("amqp").1, &Origin::Default);
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let toml = "amqp = \"a:1\"\nhttp = \"a:1\"\nmetrics = \"a:1\"\nframe_max = 8_192\n";
    let environment = [
        ("STAUNCH_AMQP", "b:2"),
        ("STAUNCH_HTTP", "b:2"),
        ("PATH", "/bin"),
    ];
    let loaded = resolve(&sources(toml, &environment, &[("amqp", "c:3")])).unwrap();
    let config = &loaded.config;
    assert_eq!(shown_address(&config.amqp), "c:3");
    assert_eq!(shown_address(&config.http), "b:2");
    assert_eq!(shown_address(&config.metrics), "a:1");
    assert_eq!(config.peer.to_string(), "0.0.0.0:25672");
    assert_eq!(config.frame_max, 8192);
    assert_eq!(loaded.text("amqp").1.to_string(), "flag --amqp");
    assert_eq!(
        loaded.text("http").1.to_string(),
        "environment STAUNCH_HTTP"
    );
    assert_eq!(loaded.text("metrics").1.to_string(), "staunch.toml:3:11");
}

#[test]
fn all_errors_come_at_once_with_their_places() {
    let toml = "data_dirr = \"/var\"\n\namqp = 5672\n  memory_limit = \"lots\"\nheartbeat = true\n";
    let environment = [("STAUNCH_HTP", "x"), ("STAUNCH_FRAME_MAX", "big")];
    check_errors(
        &sources(toml, &environment, &[("log_format", "xml")]),
        r#"flag --log-format: log_format: "xml" is none of auto, text, json
environment STAUNCH_HTP: unknown variable
   hint: did you mean STAUNCH_HTTP?
environment STAUNCH_FRAME_MAX: frame_max: "big" is not a number from 0 to 4294967295
staunch.toml:1:1: unknown key "data_dirr"
 1 | data_dirr = "/var"
   | ^
   hint: did you mean "data_dir"?
staunch.toml:3:8: amqp: "5672" is not HOST:PORT, for example 0.0.0.0:5672 or [::]:5672
 3 | amqp = 5672
   |        ^
staunch.toml:4:18: memory_limit: "lots" is neither a size such as 512MiB nor a share as 50%
 4 |   memory_limit = "lots"
   |                  ^
staunch.toml:5:13: heartbeat is a DURATION, not a TOML boolean
 5 | heartbeat = true
   |             ^"#,
    );
}

#[test]
fn syntax_errors_have_a_place_and_do_not_hide_others() {
    let toml = "amqp = \nhtpp = \"a:1\"\n";
    let ConfigErrors(errors) = resolve(&sources(toml, &[], &[])).unwrap_err();
    let origins: Vec<_> = errors
        .iter()
        .map(|error| error.origin.to_string())
        .collect();
    assert!(
        origins
            .iter()
            .any(|origin| origin.starts_with("staunch.toml:1:")),
        "{origins:?}"
    );
    assert!(
        origins.contains(&"staunch.toml:2:1".to_owned()),
        "{origins:?}"
    );
}

#[test]
fn a_cluster_is_founded_by_few_nodes_and_this_one() {
    let seeds = "seed = [\"n1=a:1\", \"n2=b:2\"]\n";
    let resolved = resolve(&sources(seeds, &[], &[("node_name", "n1")])).unwrap();
    assert_eq!(resolved.config.seed.0.len(), 2);
    check_errors(
        &sources(seeds, &[], &[("node_name", "n3")]),
        "staunch.toml:1:8: seed: does not name this node, n3\n \
         1 | seed = [\"n1=a:1\", \"n2=b:2\"]\n   |        ^",
    );
    let many: Vec<_> = (1..=10).map(|i| format!("n{i}=a:{i}")).collect();
    check_errors(
        &sources("", &[], &[("node_name", "n1"), ("seed", &many.join(","))]),
        "flag --seed: seed: names 10 nodes: at most 9 found a cluster",
    );
    check_errors(
        &sources("", &[], &[("seed", "n1=a")]),
        "flag --seed: seed: \"a\" is not HOST:PORT, for example 0.0.0.0:5672 or [::]:5672",
    );
}

#[test]
fn peers_that_do_not_go_together_are_refused() {
    let flags = [
        ("node_name", "n3"),
        ("seed", "n1=a:1,n2=b:2,n1=c:3"),
        ("peer_certificate", "node.crt"),
        ("insecure_peers", "true"),
        ("cluster_name", ""),
    ];
    check_errors(
        &sources("", &[], &flags),
        "flag --seed: seed: names a node twice\n\
         flag --seed: seed: does not name this node, n3\n\
         flag --insecure-peers: insecure_peers: contradicts peer_certificate\n\
         flag --cluster-name: cluster_name: must not be empty\n\
         default: peer_key: goes with peer_certificate: give all three or none\n\
         default: peer_ca: goes with peer_certificate: give all three or none",
    );
    let flags = [
        ("peer", "127.0.0.1:1"),
        ("peer_certificate", "node.crt"),
        ("peer_key", "node.key"),
        ("peer_ca", "ca.crt"),
        ("peer_authority", "ca"),
    ];
    let config = resolve(&sources("", &[], &flags)).unwrap().config;
    assert_eq!(config.peer.to_string(), "127.0.0.1:1");
    assert_eq!(config.peer_key, Some("node.key".into()));
    assert_eq!(config.peer_authority, Some("ca".into()));
}

#[test]
fn contradictions_name_their_setting() {
    check_errors(
        &sources("frame_max = 100\n", &[], &[("heartbeat", "1500ms")]),
        "flag --heartbeat: heartbeat: must be whole seconds, at most 65535\n\
         staunch.toml:1:13: frame_max: must be 0 or at least 4096\n \
         1 | frame_max = 100\n   |             ^",
    );
}

#[test]
fn strange_variables_only_warn() {
    let environment = [
        ("STAUNCH_SERVICE_HOST", "10.0.0.1"),
        ("STAUNCH_PORT", "tcp://"),
        ("STAUNCH_QQQQQQ", "1"),
    ];
    let loaded = resolve(&sources("", &environment, &[])).unwrap();
    assert_eq!(
        loaded.warnings,
        ["environment variable STAUNCH_QQQQQQ is no setting"]
    );
}

#[test]
fn the_default_file_is_the_table_and_reads_back() {
    let text = default_file();
    let uncommented: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| {
            SETTINGS
                .iter()
                .any(|s| line.starts_with(&format!("{} = ", s.key)))
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(uncommented.lines().count(), SETTINGS.len());
    let loaded = resolve(&sources(&uncommented, &[], &[])).unwrap();
    for setting in SETTINGS {
        assert_eq!(
            loaded.text(setting.key).0,
            setting.default,
            "{}",
            setting.key
        );
    }
}

#[test]
fn secrets_are_masked() {
    let loaded = resolve(&sources("", &[], &[("default_pass", "hunter2")])).unwrap();
    assert_eq!(loaded.config.default_pass.reveal(), "hunter2");
    let text = shown(&loaded, Origins::Shown);
    assert!(text.contains("default_pass = \"********\""), "{text}");
    assert!(!text.contains("hunter2") && !format!("{:?}", loaded.config).contains("hunter2"));
}

#[test]
fn sizes_durations_and_addresses() {
    for (key, text, ok) in [
        ("memory_limit", "512MiB", true),
        ("memory_limit", "1GB", true),
        ("memory_limit", "50%", true),
        ("memory_limit", "0%", false),
        ("memory_limit", "101%", false),
        ("memory_limit", "1", false),
        ("memory_limit", "99999999999TiB", false),
        ("disk_free_limit", "2 GiB", true),
        ("disk_free_limit", "two", false),
        ("heartbeat", "10s", true),
        ("heartbeat", "30", true),
        ("heartbeat", "10 parsecs", false),
        ("handshake_timeout", "500ms", true),
        ("amqp", "[::]:5672", true),
        ("amqp", "localhost:0", true),
        ("amqp", "::5672", false),
        ("amqp", "host:99999", false),
        ("log_level", "info,staunch_log=debug", true),
        ("log_level", "loud", false),
        ("node_name", "n1@host", true),
        ("node_name", "n 1", false),
    ] {
        let setting = Setting::named(key).unwrap();
        assert_eq!((setting.check)(text).is_ok(), ok, "{key} = {text}");
    }
}

#[test]
fn booleans_lists_and_limits_have_their_own_ways_to_be_written() {
    let toml = "tls_versions = [\"1.3\"]\nconnection_max = 10\nvhost_max = \"infinity\"\n\
                definitions_skip_if_unchanged = true\nloopback_users = \"none\"\namqps = \"off\"\n\
                auth_mechanisms = [\"EXTERNAL\", \"PLAIN\"]\n";
    let config = resolve(&sources(toml, &[], &[])).unwrap().config;
    assert_eq!(config.tls_versions.0, [crate::tls::Version::V1_3]);
    assert_eq!(config.connection_max.most(), Some(10));
    assert_eq!(config.vhost_max.most(), None);
    assert!(config.definitions_skip_if_unchanged);
    assert_eq!(config.loopback_users.0, [""; 0]);
    assert_eq!(config.amqps, Listen::Off);
    let mechanisms = [Mechanism::External, Mechanism::Plain];
    assert_eq!(config.auth_mechanisms.0, mechanisms);
}

#[test]
fn tls_settings_that_do_not_go_together_are_refused() {
    let flags = [
        ("tls_certificate", "a.pem"),
        ("tls_verify", "peer"),
        ("tls_versions", ""),
        ("tls_handshake_timeout", "0"),
    ];
    check_errors(
        &sources("", &[], &flags),
        "flag --tls-verify: tls_verify: peer needs tls_ca\n\
         flag --tls-versions: tls_versions: must not be empty\n\
         flag --tls-handshake-timeout: tls_handshake_timeout: must be longer than 0\n\
         default: tls_key: goes with tls_certificate: give both or neither",
    );
    check_errors(
        &sources("", &[], &[("tls_versions", "1.1")]),
        "flag --tls-versions: tls_versions: \"1.1\" is no TLS version: there are 1.2, 1.3",
    );
    check_errors(
        &sources("tls_fail_if_no_peer_cert = true\n", &[], &[]),
        "staunch.toml:1:28: tls_fail_if_no_peer_cert: needs tls_verify = \"peer\"\n 1 | \
         tls_fail_if_no_peer_cert = true\n   |                            ^",
    );
}
