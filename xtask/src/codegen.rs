//! Writes the AMQP methods of `staunch-amqp-codec` from the machine-readable definition.
//!
//! The definition is `RabbitMQ`'s `amqp-rabbitmq-0.9.1.json`, as the crate
//! `amq-protocol-codegen` carries it; it has all of `RabbitMQ`'s extensions, and
//! [`REQUIRED_EXTENSIONS`] fails the run should a later version lose one. The output is
//! committed, so that a build needs neither this program nor that crate.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use amq_protocol_codegen::{
    AMQPArgument, AMQPClass, AMQPConstant, AMQPFlagArgument, AMQPFlagsArgument, AMQPMethod,
    AMQProtocolDefinition, camel_case,
};
use anyhow::{Context, bail, ensure};

const OUTPUT: &str = "crates/staunch-amqp-codec/src/methods.rs";

/// Class, method and method id of what `RabbitMQ` added to AMQP 0-9-1.
const REQUIRED_EXTENSIONS: &[(&str, &str, u16)] = &[
    ("basic", "nack", 120),
    ("confirm", "select", 10),
    ("confirm", "select-ok", 11),
    ("connection", "blocked", 60),
    ("connection", "unblocked", 61),
    ("connection", "update-secret", 70),
    ("connection", "update-secret-ok", 71),
    ("exchange", "bind", 30),
    ("exchange", "bind-ok", 31),
    ("exchange", "unbind", 40),
    ("exchange", "unbind-ok", 51),
];

/// `cargo xtask codegen`
pub(crate) fn write(root: &Path) -> anyhow::Result<ExitCode> {
    let path = root.join(OUTPUT);
    fs::write(&path, generate(root)?).with_context(|| format!("cannot write {OUTPUT}"))?;
    Ok(ExitCode::SUCCESS)
}

/// `cargo xtask codegen --check`
pub(crate) fn check(root: &Path) -> anyhow::Result<ExitCode> {
    let committed =
        fs::read_to_string(root.join(OUTPUT)).with_context(|| format!("cannot read {OUTPUT}"))?;
    if committed == generate(root)? {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{OUTPUT} is stale: run `cargo xtask codegen`");
    Ok(ExitCode::FAILURE)
}

/// One field of a method as it will stand in the struct and on the wire.
enum Field {
    Value {
        name: String,
        form: Form,
        /// For a field that AMQP reserves: the value it always has.
        reserved: Option<u64>,
    },
    Bits(Vec<Bit>),
}

/// One bit of an octet of bits.
struct Bit {
    name: String,
    reserved: bool,
}

/// The elementary types that occur in methods.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Octet,
    Short,
    Long,
    LongLong,
    ShortStr,
    LongStr,
    Table,
}

impl Form {
    fn rust_type(self) -> &'static str {
        match self {
            Self::Octet => "u8",
            Self::Short => "u16",
            Self::Long => "u32",
            Self::LongLong => "u64",
            Self::ShortStr => "ShortStr<'a>",
            Self::LongStr => "&'a [u8]",
            Self::Table => "TableRef<'a>",
        }
    }

    fn wire_name(self) -> &'static str {
        match self {
            Self::Octet => "octet",
            Self::Short => "short",
            Self::Long => "long",
            Self::LongLong => "longlong",
            Self::ShortStr => "shortstr",
            Self::LongStr => "longstr",
            Self::Table => "table",
        }
    }

    fn borrows(self) -> bool {
        matches!(self, Self::ShortStr | Self::LongStr | Self::Table)
    }
}

/// One method with its fields resolved.
struct Method {
    type_name: String,
    wire_name: String,
    class_id: u16,
    id: u16,
    has_content: bool,
    fields: Vec<Field>,
}

impl Method {
    fn borrows(&self) -> bool {
        self.fields
            .iter()
            .any(|f| matches!(f, Field::Value { form, .. } if form.borrows()))
    }

    fn lifetime(&self) -> &'static str {
        if self.borrows() { "<'a>" } else { "" }
    }

    fn anonymous_lifetime(&self) -> &'static str {
        if self.borrows() { "<'_>" } else { "" }
    }
}

fn generate(root: &Path) -> anyhow::Result<String> {
    let definition = AMQProtocolDefinition::load(None);
    let methods = resolve(&definition)?;
    let mut out = String::new();
    out.push_str(PRELUDE);
    method_enum(&mut out, &methods)?;
    for method in &methods {
        method_struct(&mut out, method)?;
    }
    reply_codes(&mut out, &definition)?;
    layouts(&mut out, &methods)?;
    rustfmt(root, &out)
}

fn resolve(definition: &AMQProtocolDefinition) -> anyhow::Result<Vec<Method>> {
    let mut methods = Vec::new();
    for class in &definition.classes {
        for method in &class.methods {
            methods.push(resolve_method(class, method)?);
        }
    }
    for (class, method, method_id) in REQUIRED_EXTENSIONS {
        let wire_name = format!("{class}.{method}");
        let found = methods
            .iter()
            .any(|m| m.wire_name == wire_name && m.id == *method_id);
        ensure!(found, "the definition lacks {wire_name}");
    }
    methods.sort_by_key(|method| (method.class_id, method.id));
    Ok(methods)
}

fn resolve_method(class: &AMQPClass, method: &AMQPMethod) -> anyhow::Result<Method> {
    let mut fields = Vec::new();
    for argument in &method.arguments {
        fields.push(match argument {
            AMQPArgument::Value(value) => Field::Value {
                name: field_name(&value.name),
                form: form(&format!("{:?}", value.amqp_type))
                    .with_context(|| format!("{}.{}.{}", class.name, method.name, value.name))?,
                reserved: value
                    .force_default
                    .then(|| default_number(&value.default_value)),
            },
            AMQPArgument::Flags(flags) => Field::Bits(bits(flags)?),
        });
    }
    Ok(Method {
        type_name: format!("{}{}", camel_case(&class.name), camel_case(&method.name)),
        wire_name: format!("{}.{}", class.name, method.name),
        class_id: class.id,
        id: method.id,
        has_content: method.content,
        fields,
    })
}

fn bits(flags: &AMQPFlagsArgument) -> anyhow::Result<Vec<Bit>> {
    ensure!(flags.flags.len() <= 8, "more than one octet of bits");
    let bit = |flag: &AMQPFlagArgument| Bit {
        name: field_name(&flag.name),
        reserved: flag.force_default,
    };
    Ok(flags.flags.iter().map(bit).collect())
}

/// The default of a reserved field; 0 for strings, whose only default is the empty one.
fn default_number(value: &impl std::fmt::Debug) -> u64 {
    let digits: String = format!("{value:?}")
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap_or_default()
}

fn form(amqp_type: &str) -> anyhow::Result<Form> {
    Ok(match amqp_type {
        "ShortShortUInt" => Form::Octet,
        "ShortUInt" => Form::Short,
        "LongUInt" => Form::Long,
        "LongLongUInt" => Form::LongLong,
        "ShortString" => Form::ShortStr,
        "LongString" => Form::LongStr,
        "FieldTable" => Form::Table,
        other => bail!("type {other} has no form in Rust"),
    })
}

fn field_name(name: &str) -> String {
    match name {
        "type" => "kind".to_owned(),
        name => name.replace(['-', ' '], "_"),
    }
}

const PRELUDE: &str = r#"//! The methods of AMQP 0-9-1 with RabbitMQ's extensions.
//!
//! Generated by `cargo xtask codegen`; do not edit. Long because one file holds all methods.
//!
//! A method borrows from the payload it was decoded from. Bits that share an octet on the wire
//! are separate `bool` fields; the field `type` is called `kind`.

#![expect(clippy::struct_excessive_bools, reason = "AMQP defines the fields")]
#![allow(clippy::too_many_lines, reason = "one line for each method")]

use staunch_types::field_table::TableRef;

use crate::frame::FrameKind;
use crate::wire::{
    ArgumentError, Reader, ShortStr, begin_frame, end_frame, put_long, put_longlong, put_longstr,
    put_short, put_shortstr, put_table,
};

/// Why a method payload cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The payload has not even a class and a method id.
    #[error("method frame of {size_bytes} bytes has no class and method id")]
    NoId {
        /// Size of the payload.
        size_bytes: usize,
    },
    /// No such method.
    #[error("unknown method {class_id}.{method_id}")]
    UnknownMethod {
        /// Class id found.
        class_id: u16,
        /// Method id found.
        method_id: u16,
    },
    /// The arguments do not fit the method.
    #[error("cannot decode {name}: {source}")]
    Arguments {
        /// Class and method by name.
        name: &'static str,
        /// Class id of the method.
        class_id: u16,
        /// Method id of the method.
        method_id: u16,
        /// What is wrong.
        source: ArgumentError,
    },
}
"#;

fn method_enum(out: &mut String, methods: &[Method]) -> anyhow::Result<()> {
    writeln!(
        out,
        "\n/// Any method.\n#[derive(Clone, Copy, Debug, PartialEq, Eq)]"
    )?;
    writeln!(out, "pub enum Method<'a> {{")?;
    for m in methods {
        writeln!(
            out,
            "/// `{}`\n{}({}{}),",
            m.wire_name,
            m.type_name,
            m.type_name,
            m.lifetime()
        )?;
    }
    writeln!(out, "}}\n\nimpl<'a> Method<'a> {{")?;
    enum_decode(out, methods)?;
    enum_getter(
        out,
        methods,
        "/// Appends class id, method id and arguments to `out`: the payload of a frame.",
        "pub fn encode(&self, out: &mut Vec<u8>)",
        |m| format!("Self::{}(method) => method.encode(out),", m.type_name),
    )?;
    enum_getter(
        out,
        methods,
        "/// Appends a whole frame to `out`.",
        "pub fn encode_frame(&self, channel: u16, out: &mut Vec<u8>)",
        |m| {
            format!(
                "Self::{}(method) => method.encode_frame(channel, out),",
                m.type_name
            )
        },
    )?;
    enum_getter(
        out,
        methods,
        "/// Class and method id, as `connection.close` and `channel.close` name them.",
        "#[must_use] pub fn ids(&self) -> (u16, u16)",
        |m| {
            format!(
                "Self::{0}(_) => ({0}::CLASS_ID, {0}::METHOD_ID),",
                m.type_name
            )
        },
    )?;
    enum_getter(
        out,
        methods,
        "/// Class and method by name, as in `basic.publish`.",
        "#[must_use] pub fn name(&self) -> &'static str",
        |m| format!("Self::{0}(_) => {0}::NAME,", m.type_name),
    )?;
    writeln!(out, "/// Whether a content header and a body follow.")?;
    writeln!(
        out,
        "#[must_use] pub fn has_content(&self) -> bool {{ matches!(self,"
    )?;
    let with_content: Vec<String> = methods
        .iter()
        .filter(|m| m.has_content)
        .map(|m| format!("Self::{}(_)", m.type_name))
        .collect();
    writeln!(out, "{}) }}\n}}", with_content.join(" | "))?;
    Ok(())
}

fn enum_decode(out: &mut String, methods: &[Method]) -> anyhow::Result<()> {
    out.push_str(
        "/// Decodes the payload of a method frame.
        ///
        /// # Errors
        /// [`DecodeError`].\n",
    );
    out.push_str(
        "pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
            let Some((&[c1, c0, m1, m0], arguments)) = payload.split_first_chunk() else {
                return Err(DecodeError::NoId { size_bytes: payload.len() });
            };
            let class_id = u16::from_be_bytes([c1, c0]);
            let method_id = u16::from_be_bytes([m1, m0]);
            match (class_id, method_id) {\n",
    );
    for m in methods {
        writeln!(
            out,
            "({0}::CLASS_ID, {0}::METHOD_ID) => {0}::decode(arguments).map(Self::{0}),",
            m.type_name
        )?;
    }
    out.push_str("_ => Err(DecodeError::UnknownMethod { class_id, method_id }),\n}\n}\n");
    Ok(())
}

fn enum_getter(
    out: &mut String,
    methods: &[Method],
    doc: &str,
    signature: &str,
    arm: impl Fn(&Method) -> String,
) -> anyhow::Result<()> {
    writeln!(out, "\n{doc}\n{signature} {{ match self {{")?;
    for method in methods {
        writeln!(out, "{}", arm(method))?;
    }
    writeln!(out, "}} }}")?;
    Ok(())
}

fn method_struct(out: &mut String, m: &Method) -> anyhow::Result<()> {
    writeln!(out, "\n/// AMQP 0-9-1, `{}`.", m.wire_name)?;
    writeln!(out, "#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]")?;
    if m.fields.is_empty() {
        writeln!(out, "pub struct {};", m.type_name)?;
    } else {
        writeln!(out, "pub struct {}{} {{", m.type_name, m.lifetime())?;
        for field in &m.fields {
            match field {
                Field::Value { name, form, .. } => {
                    writeln!(
                        out,
                        "/// {}\npub {name}: {},",
                        form.wire_name(),
                        form.rust_type()
                    )?;
                }
                Field::Bits(names) => {
                    for Bit { name, .. } in names {
                        writeln!(out, "/// bit\npub {name}: bool,")?;
                    }
                }
            }
        }
        writeln!(out, "}}")?;
    }
    writeln!(
        out,
        "\nimpl {}{} {{
            /// Class id.
            pub const CLASS_ID: u16 = {};
            /// Method id.
            pub const METHOD_ID: u16 = {};
            /// Class and method by name.
            pub const NAME: &'static str = \"{}\";\n",
        m.type_name,
        m.anonymous_lifetime(),
        m.class_id,
        m.id,
        m.wire_name
    )?;
    struct_encode(out, m)?;
    if m.borrows() {
        writeln!(out, "}}\n\nimpl<'a> {}<'a> {{", m.type_name)?;
    }
    struct_decode(out, m)?;
    writeln!(out, "}}")?;
    if m.borrows() {
        writeln!(
            out,
            "\nimpl<'a> From<{0}<'a>> for Method<'a> {{ fn from(method: {0}<'a>) -> Self {{ Self::{0}(method) }} }}",
            m.type_name
        )?;
    } else {
        writeln!(
            out,
            "\nimpl From<{0}> for Method<'_> {{ fn from(method: {0}) -> Self {{ Self::{0}(method) }} }}",
            m.type_name
        )?;
    }
    Ok(())
}

fn struct_decode(out: &mut String, m: &Method) -> anyhow::Result<()> {
    writeln!(
        out,
        "\n/// Decodes the arguments: the payload after class and method id.
        ///
        /// # Errors
        /// [`DecodeError::Arguments`].
        #[inline]
        pub fn decode(arguments: &{}[u8]) -> Result<Self, DecodeError> {{
            Self::read(Reader::new(arguments)).map_err(|source| DecodeError::Arguments {{
                name: Self::NAME, class_id: Self::CLASS_ID, method_id: Self::METHOD_ID, source,
            }})
        }}\n",
        if m.borrows() { "'a " } else { "" },
    )?;
    let reader = if m.borrows() {
        "Reader<'a>"
    } else {
        "Reader<'_>"
    };
    let binding = if m.fields.is_empty() {
        "reader"
    } else {
        "mut reader"
    };
    writeln!(
        out,
        "#[inline]\nfn read({binding}: {reader}) -> Result<Self, ArgumentError> {{"
    )?;
    let mut names = Vec::new();
    for field in &m.fields {
        match field {
            Field::Value { name, form, .. } => {
                writeln!(out, "let {name} = reader.{}()?;", form.wire_name())?;
                names.push(name.clone());
            }
            Field::Bits(bits) => {
                writeln!(out, "let bits = reader.octet()?;")?;
                for (position, Bit { name, .. }) in bits.iter().enumerate() {
                    writeln!(out, "let {name} = bits & {} != 0;", 1 << position)?;
                    names.push(name.clone());
                }
            }
        }
    }
    writeln!(out, "reader.finish()?;")?;
    if names.is_empty() {
        writeln!(out, "Ok(Self)\n}}")?;
    } else {
        writeln!(out, "Ok(Self {{ {} }})\n}}", names.join(", "))?;
    }
    Ok(())
}

fn struct_encode(out: &mut String, m: &Method) -> anyhow::Result<()> {
    let ids: Vec<String> = [m.class_id, m.id]
        .iter()
        .flat_map(|id| id.to_be_bytes())
        .map(|octet| octet.to_string())
        .collect();
    writeln!(
        out,
        "/// Appends class id, method id and arguments to `out`: the payload of a frame.
        #[inline]
        pub fn encode(&self, out: &mut Vec<u8>) {{
            out.extend_from_slice(&[{}]);",
        ids.join(", ")
    )?;
    for field in &m.fields {
        match field {
            Field::Value {
                name,
                form: Form::Octet,
                ..
            } => writeln!(out, "out.push(self.{name});")?,
            Field::Value { name, form, .. } => {
                writeln!(out, "put_{}(out, self.{name});", form.wire_name())?;
            }
            Field::Bits(bits) => {
                let bits: Vec<String> = bits
                    .iter()
                    .enumerate()
                    .map(|(position, Bit { name, .. })| match position {
                        0 => format!("u8::from(self.{name})"),
                        _ => format!("u8::from(self.{name}) << {position}"),
                    })
                    .collect();
                writeln!(out, "out.push({});", bits.join(" | "))?;
            }
        }
    }
    writeln!(
        out,
        "}}\n
        /// Appends a whole frame to `out`.
        #[inline]
        pub fn encode_frame(&self, channel: u16, out: &mut Vec<u8>) {{
            let start = begin_frame(out, FrameKind::Method, channel);
            self.encode(out);
            end_frame(out, start);
        }}"
    )?;
    Ok(())
}

fn reply_codes(out: &mut String, definition: &AMQProtocolDefinition) -> anyhow::Result<()> {
    let success: Vec<&AMQPConstant> = definition
        .constants
        .iter()
        .filter(|c| c.name == "reply-success")
        .collect();
    let mut codes: Vec<&AMQPConstant> = success
        .into_iter()
        .chain(&definition.soft_errors)
        .chain(&definition.hard_errors)
        .collect();
    codes.sort_by_key(|code| code.value);
    let code_name = |code: &AMQPConstant| code.name.replace(['-', ' '], "_").to_uppercase();
    writeln!(
        out,
        "\n/// Reply codes of `close` and `return`.\npub mod reply_code {{"
    )?;
    for code in &codes {
        writeln!(
            out,
            "/// `{0}`\npub const {0}: u16 = {1};",
            code_name(code),
            code.value
        )?;
    }
    out.push_str(
        "\n/// The name of `code`, which begins every reply text; `None` if AMQP has no such code.
        #[must_use] pub fn name(code: u16) -> Option<&'static str> { Some(match code {\n",
    );
    for code in &codes {
        writeln!(out, "{0} => \"{0}\",", code_name(code))?;
    }
    writeln!(out, "_ => return None,\n}}) }}\n}}")?;
    Ok(())
}

/// The wire layouts as data, from which the tests make payloads of every method.
fn layouts(out: &mut String, methods: &[Method]) -> anyhow::Result<()> {
    writeln!(
        out,
        "\n/// Name, class id, method id and arguments of each method, for the tests.
        ///
        /// `reserved:HEX` is a field that always has these octets; `bits:MASK` an octet of bits
        /// of which those in MASK are used.
        #[cfg(test)]
        pub(crate) const LAYOUTS: &[(&str, u16, u16, &[&str])] = &["
    )?;
    for m in methods {
        let fields: Vec<String> = m
            .fields
            .iter()
            .map(|field| format!("\"{}\"", layout(field)))
            .collect();
        writeln!(
            out,
            "(\"{}\", {}, {}, &[{}]),",
            m.wire_name,
            m.class_id,
            m.id,
            fields.join(", ")
        )?;
    }
    writeln!(out, "];")?;
    Ok(())
}

fn layout(field: &Field) -> String {
    match field {
        Field::Value {
            form,
            reserved: Some(value),
            ..
        } => {
            let digits = match form {
                Form::Octet | Form::ShortStr => 2,
                Form::Short => 4,
                Form::Long | Form::LongStr | Form::Table => 8,
                Form::LongLong => 16,
            };
            format!("reserved:{value:0digits$x}")
        }
        Field::Value {
            form,
            reserved: None,
            ..
        } => form.wire_name().to_owned(),
        Field::Bits(bits) => {
            let used = bits.iter().enumerate().filter(|(_, bit)| !bit.reserved);
            format!(
                "bits:{}",
                used.map(|(position, _)| 1_u32 << position).sum::<u32>()
            )
        }
    }
}

/// Formats as `cargo fmt` would, with the settings of the workspace.
fn rustfmt(root: &Path, source: &str) -> anyhow::Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start rustfmt")?;
    let mut stdin = child.stdin.take().context("rustfmt has a standard input")?;
    let source = source.to_owned();
    // Written from a thread: rustfmt may fill its output before it has read all its input.
    let writer = std::thread::spawn(move || stdin.write_all(source.as_bytes()));
    let output = child.wait_with_output().context("rustfmt")?;
    let written = writer
        .join()
        .map_err(|_| anyhow::anyhow!("the writer thread panicked"))?;
    written.context("cannot write to rustfmt")?;
    ensure!(
        output.status.success(),
        "rustfmt refused the generated code"
    );
    Ok(String::from_utf8(output.stdout)?)
}
