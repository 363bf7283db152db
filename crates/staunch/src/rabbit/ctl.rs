//! `rabbitmqctl`.

use std::{
    fs,
    io::{self, BufRead as _},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use crate::{
    cli::{
        failure::Exit,
        options::Options,
        output,
        target::{Put, Target, path},
    },
    rabbit::{
        call::{Call, Stop},
        diagnostics, exit,
        lists::{self, LISTS},
    },
};

/// Longest wait of `await_startup` unless `-t` says otherwise.
const AWAIT_SECONDS: u64 = 300;
/// Between two looks.
const AWAIT_PAUSE: Duration = Duration::from_millis(200);

pub(crate) fn run(arguments: Vec<String>) -> ExitCode {
    match Call::parse(arguments).and_then(|call| dispatch(&call)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => stop.report(),
    }
}

/// What both tools know.
pub(crate) fn dispatch(call: &Call) -> Result<(), Stop> {
    if let Some(list) = LISTS.iter().find(|list| list.command == call.command) {
        return lists::print(call, list);
    }
    match call.command.as_str() {
        "add_user" | "change_password" | "delete_user" | "set_user_tags" | "authenticate_user" => {
            users(call)
        }
        "add_vhost" | "delete_vhost" => vhosts(call),
        "set_permissions" | "clear_permissions" => permissions(call),
        "set_policy" | "clear_policy" | "set_operator_policy" | "clear_operator_policy" => {
            policies(call)
        }
        "set_vhost_limits" | "set_user_limits" => limits(call),
        "delete_queue" | "purge_queue" => queues(call),
        "export_definitions" | "import_definitions" => definitions(call),
        "close_all_connections" | "close_all_user_connections" => connections(call),
        "await_startup" | "wait" => await_startup(call),
        _ => diagnostics::dispatch(call),
    }
}

/// What is not here, with what is.
pub(crate) fn unknown(call: &Call) -> Stop {
    let text = match call.command.as_str() {
        "" => "Usage: rabbitmqctl [-n NODE] [-q] COMMAND [OPTIONS]\nStaunch has these: docs/cli.md"
            .to_owned(),
        "eval" | "eval_file" | "remote_shell" | "rpc" => {
            "There is no Erlang in Staunch; `staunch --help` lists its own commands".to_owned()
        }
        command => {
            format!("Command '{command}' not found. \n\n`staunch --help` lists Staunch's own")
        }
    };
    Stop::new(exit::USAGE, text)
}

fn users(call: &Call) -> Result<(), Stop> {
    let target = call.target()?;
    let name = call.argument(0)?;
    let place = path(&["users", name]);
    let none = || Stop::new(exit::NO_USER, format!("User \"{name}\" does not exist"));
    let find = || match target.get(&place) {
        Err(failure) if failure.exit == Exit::NotFound => Ok(None),
        found => found.map(Some).map_err(Stop::from),
    };
    match call.command.as_str() {
        "add_user" => {
            call.say(&format!("Adding user \"{name}\" ..."))?;
            if find()?.is_some() {
                let text = format!("User \"{name}\" already exists");
                return Err(Stop::new(exit::SOFTWARE, text));
            }
            let body = json!({"password": password(call, 1)?, "tags": ""});
            target.put(&place, &body)?;
            call.say(
                "Done. Don't forget to grant the user permissions to some virtual hosts! See \
                 'rabbitmqctl help set_permissions' to learn more.",
            )?;
        }
        "change_password" => {
            call.say(&format!("Changing password for user \"{name}\" ..."))?;
            let found = find()?.ok_or_else(none)?;
            let body = json!({"password": password(call, 1)?, "tags": found["tags"]});
            target.put(&place, &body)?;
        }
        "delete_user" => {
            call.say(&format!("Deleting user \"{name}\" ..."))?;
            find()?.ok_or_else(none)?;
            target.delete(&place)?;
        }
        "set_user_tags" => {
            let tags = &call.arguments[1..];
            let shown = tags.join(", ");
            call.say(&format!(
                "Setting tags for user \"{name}\" to [{shown}] ..."
            ))?;
            let found = find()?.ok_or_else(none)?;
            let body = json!({
                "tags": tags,
                "password_hash": found["password_hash"],
                "hashing_algorithm": found["hashing_algorithm"],
            });
            target.put(&place, &body)?;
        }
        _ => {
            call.say(&format!("Authenticating user \"{name}\" ..."))?;
            authenticate(&target, name, &password(call, 1)?)?;
            call.say("Success")?;
        }
    }
    Ok(())
}

/// The password on the command line, or a line of standard input.
fn password(call: &Call, at: usize) -> Result<String, Stop> {
    if let Ok(password) = call.argument(at) {
        return Ok(password.to_owned());
    }
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Stop::new(exit::SOFTWARE, error.to_string()))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn authenticate(target: &Target, user: &str, password: &str) -> Result<(), Stop> {
    let login = (user.to_owned(), password.to_owned());
    let asked = Options::at(target.resolved.node.clone(), Some(login)).target()?;
    match asked.get("whoami") {
        Ok(_) => Ok(()),
        // Somebody without tags may log in and see nothing here.
        Err(failure) if failure.what.contains("Not management user") => Ok(()),
        Err(failure) if failure.exit == Exit::Denied => {
            let text = format!(
                "Error:\nError: failed to authenticate user \"{user}\"\nuser '{user}' - invalid \
                 credentials"
            );
            Err(Stop::new(exit::DATA, text))
        }
        Err(failure) => Err(failure.into()),
    }
}

fn vhosts(call: &Call) -> Result<(), Stop> {
    let target = call.target()?;
    let name = call.argument(0)?;
    let place = path(&["vhosts", name]);
    if call.command == "delete_vhost" {
        call.say(&format!("Deleting vhost \"{name}\" ..."))?;
        return missing(target.delete(&place), name).map(drop);
    }
    call.say(&format!("Adding vhost \"{name}\" ..."))?;
    let mut body = Map::new();
    for (option, key) in [
        ("description", "description"),
        ("tags", "tags"),
        ("default-queue-type", "default_queue_type"),
    ] {
        let value = call.option(option).map(Value::from);
        body.extend(value.map(|value| (key.to_owned(), value)));
    }
    target.put(&place, &Value::Object(body))?;
    Ok(())
}

/// What is missing is the virtual host.
fn missing<T>(answer: Result<T, crate::cli::failure::Failure>, vhost: &str) -> Result<T, Stop> {
    answer.map_err(|failure| match failure.exit {
        Exit::NotFound => Stop::new(exit::DATA, format!("Virtual host '{vhost}' does not exist")),
        _ => failure.into(),
    })
}

fn permissions(call: &Call) -> Result<(), Stop> {
    let target = call.target()?;
    let (user, vhost) = (call.argument(0)?, call.vhost());
    let place = path(&["permissions", vhost, user]);
    if call.command == "clear_permissions" {
        call.say(&format!(
            "Clearing permissions for user \"{user}\" in vhost \"{vhost}\" ..."
        ))?;
        return missing(target.delete(&place), vhost).map(drop);
    }
    call.say(&format!(
        "Setting permissions for user \"{user}\" in vhost \"{vhost}\" ..."
    ))?;
    let body = json!({
        "configure": call.argument(1)?,
        "write": call.argument(2)?,
        "read": call.argument(3)?,
    });
    if let Err(failure) = target.get(&path(&["users", user]))
        && failure.exit == Exit::NotFound
    {
        let text = format!("User \"{user}\" does not exist");
        return Err(Stop::new(exit::NO_USER, text));
    }
    missing(target.put(&place, &body), vhost).map(|_: Put| ())
}

fn policies(call: &Call) -> Result<(), Stop> {
    let target = call.target()?;
    let (name, vhost) = (call.argument(0)?, call.vhost());
    let (kind, noun) = if call.command.ends_with("operator_policy") {
        ("operator-policies", "operator policy override")
    } else {
        ("policies", "policy")
    };
    let place = path(&[kind, vhost, name]);
    if call.command.starts_with("clear") {
        call.say(&format!(
            "Clearing {noun} \"{name}\" on vhost \"{vhost}\" ..."
        ))?;
        return missing(target.delete(&place), vhost).map(drop);
    }
    let (pattern, definition) = (call.argument(1)?, call.argument(2)?);
    let priority = call.option("priority").unwrap_or("0");
    call.say(&format!(
        "Setting {noun} \"{name}\" for pattern \"{pattern}\" to \"{definition}\" with priority \
         \"{priority}\" for vhost \"{vhost}\" ..."
    ))?;
    let wrong = |what: String| Stop::new(exit::DATA, what);
    let definition: Value = serde_json::from_str(definition)
        .map_err(|error| wrong(format!("JSON decoding error: {error}")))?;
    let priority: i64 = priority.parse().map_err(|_| {
        wrong(format!(
            "priority should be a number, actually was {priority}"
        ))
    })?;
    let body = json!({
        "pattern": pattern,
        "definition": definition,
        "priority": priority,
        "apply-to": call.option("apply-to").unwrap_or("all"),
    });
    missing(target.put(&place, &body), vhost).map(|_: Put| ())
}

/// A definition of JSON: each of its limits on its own; -1 is none.
fn limits(call: &Call) -> Result<(), Stop> {
    let target = call.target()?;
    let is_user = call.command == "set_user_limits";
    let (kind, of, json) = if is_user {
        ("user-limits", call.argument(0)?, call.argument(1)?)
    } else {
        ("vhost-limits", call.vhost(), call.argument(0)?)
    };
    let noun = if is_user { "user" } else { "vhost" };
    call.say(&format!(
        "Setting {noun} limits to \"{json}\" for {noun} \"{of}\" ..."
    ))?;
    let limits: Map<String, Value> = serde_json::from_str(json)
        .map_err(|error| Stop::new(exit::DATA, format!("JSON decoding error: {error}")))?;
    for (limit, value) in limits {
        let place = path(&[kind, of, &limit]);
        target.put(&place, &json!({ "value": value }))?;
    }
    Ok(())
}

fn queues(call: &Call) -> Result<(), Stop> {
    let target = call.target()?;
    let (name, vhost) = (call.argument(0)?, call.vhost());
    let none = |failure: crate::cli::failure::Failure| match failure.exit {
        Exit::NotFound => Stop::new(exit::DATA, format!("No such queue was found: {name}")),
        _ => failure.into(),
    };
    let queue = target.get(&path(&["queues", vhost, name]));
    if call.command == "purge_queue" {
        call.say(&format!("Purging queue '{name}' in vhost '{vhost}' ..."))?;
        queue.map_err(none)?;
        target.delete(&path(&["queues", vhost, name, "contents"]))?;
        return Ok(());
    }
    call.say(&format!("Deleting queue '{name}' on vhost '{vhost}' ..."))?;
    let count = queue.map_err(none)?["messages"].clone();
    let conditions = format!(
        "?if-empty={}&if-unused={}",
        call.has("if-empty"),
        call.has("if-unused")
    );
    target.delete(&(path(&["queues", vhost, name]) + &conditions))?;
    call.say(&format!(
        "Queue was successfully deleted with {count} ready messages"
    ))?;
    Ok(())
}

fn definitions(call: &Call) -> Result<(), Stop> {
    let target = call.target()?;
    let file = call.arguments.first().map_or("-", String::as_str);
    let wrong = |error: io::Error| Stop::new(exit::DATA, format!("{file}: {error}"));
    if call.command == "export_definitions" {
        if file != "-" {
            call.say(&format!(
                "Exporting definitions in JSON to a file at \"{file}\" ..."
            ))?;
        }
        let text = target.get_bytes("definitions")?;
        if file == "-" {
            return Ok(output::text(&String::from_utf8_lossy(&text))?);
        }
        return fs::write(file, text).map_err(wrong);
    }
    let text = if file == "-" {
        io::read_to_string(io::stdin()).map_err(wrong)?.into_bytes()
    } else {
        call.say(&format!(
            "Importing definitions in JSON from a file at \"{file}\" ..."
        ))?;
        fs::read(file).map_err(wrong)?
    };
    target.post("definitions", &text)?;
    call.say("Successfully started definition import.")?;
    Ok(())
}

fn connections(call: &Call) -> Result<(), Stop> {
    let target = call.target()?;
    let reason = call.arguments.last().map(String::as_str);
    let place = match call.command.as_str() {
        "close_all_user_connections" => path(&["connections", "username", call.argument(0)?]),
        _ if call.has("vhost") => path(&["vhosts", call.vhost(), "connections"]),
        _ => "connections".to_owned(),
    };
    let rows = target.get_list(&place)?;
    for name in rows.iter().filter_map(|row| row["name"].as_str()) {
        match target.delete_saying(&path(&["connections", name]), reason) {
            Err(failure) if failure.exit == Exit::NotFound => {}
            closed => drop(closed?),
        }
    }
    call.say(&format!("Closed {} connections", rows.len()))?;
    Ok(())
}

fn await_startup(call: &Call) -> Result<(), Stop> {
    let target = call.target()?;
    let seconds = call.option("timeout").and_then(|it| it.parse().ok());
    let patience = Duration::from_secs(seconds.unwrap_or(AWAIT_SECONDS));
    let started = Instant::now();
    loop {
        match target.check("health/checks/is-in-service") {
            Ok((true, _)) => return Ok(()),
            Ok((false, _)) => {}
            Err(failure) if failure.exit == Exit::Unreachable => {}
            Err(failure) => return Err(failure.into()),
        }
        if started.elapsed() >= patience {
            let text = format!("operation await_startup timed out after {patience:?}");
            return Err(Stop::new(exit::UNAVAILABLE, text));
        }
        thread::sleep(AWAIT_PAUSE);
    }
}
