//! Runtime parameters: settings of plugins and clusters, kept for whoever reads them.

use staunch_types::field_table::{TableBuilder, TableRef, Value};
use staunch_types::{FieldTable, Name, Refusal};

use super::users::check_name;
use super::{Applied, Catalog, Change, Mode};
use crate::encoding::{DecodeError, Reader, Writer};

/// Largest table that is kept, in encoded bytes: the value of a parameter, what a policy says,
/// the arguments of a queue, an exchange or a binding.
pub const TABLE_SIZE_BYTES_MAX: usize = 1 << 20;

/// Components that have commands of their own, though definitions files list them here.
const RESERVED_COMPONENTS: [&[u8]; 3] = [b"policy", b"operator_policy", b"vhost-limits"];

/// Key under which the table holds the value.
const VALUE_KEY: &str = "value";

/// A value of any JSON type: objects are tables, null is void, numbers are 64 bits wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterValue(FieldTable);

impl ParameterValue {
    /// Copies a value.
    ///
    /// # Panics
    /// Never: the key is short.
    pub fn new(value: Value<'_>) -> Self {
        let mut table = TableBuilder::new();
        table
            .try_value(VALUE_KEY.as_bytes(), value)
            .expect("the key is short");
        Self(table.build())
    }

    /// The value.
    pub fn get(&self) -> Value<'_> {
        self.0.get(VALUE_KEY).unwrap_or(Value::Void)
    }
}

/// A change of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum ParameterCommand {
    /// Set a parameter of a virtual host.
    Set {
        /// Virtual host.
        vhost: Name,
        /// Whose parameter, such as `shovel`.
        component: Name,
        /// Its name.
        name: Name,
        /// Its value.
        value: ParameterValue,
    },
    /// Remove one; a missing one is no error.
    Clear {
        /// Virtual host.
        vhost: Name,
        /// Whose parameter.
        component: Name,
        /// Its name.
        name: Name,
    },
    /// Set a global parameter.
    SetGlobal {
        /// Its name, such as `cluster_name`.
        name: Name,
        /// Its value.
        value: ParameterValue,
    },
    /// Remove one; a missing one is no error.
    ClearGlobal {
        /// Its name.
        name: Name,
    },
}

impl Catalog {
    /// A parameter of a virtual host.
    pub fn parameter(&self, vhost: &[u8], component: &Name, name: &Name) -> Option<Value<'_>> {
        let key = (component.clone(), name.clone());
        let value = self.vhosts.get(vhost)?.parameters.get(&key)?;
        Some(value.get())
    }

    /// The parameters of a virtual host by component and name.
    pub fn parameters(&self, vhost: &[u8]) -> impl Iterator<Item = (&Name, &Name, Value<'_>)> {
        self.vhosts.get(vhost).into_iter().flat_map(|inside| {
            let parameters = inside.parameters.iter();
            parameters.map(|((component, name), value)| (component, name, value.get()))
        })
    }

    /// A global parameter.
    pub fn global_parameter(&self, name: &[u8]) -> Option<Value<'_>> {
        self.global_parameters.get(name).map(ParameterValue::get)
    }

    /// The global parameters by name.
    pub fn global_parameters(&self) -> impl Iterator<Item = (&Name, Value<'_>)> {
        let parameters = self.global_parameters.iter();
        parameters.map(|(name, value)| (name, value.get()))
    }

    pub(super) fn apply_parameter(
        &mut self,
        command: &ParameterCommand,
        mode: Mode,
    ) -> Result<Applied, Refusal> {
        let change = match command {
            ParameterCommand::Set {
                vhost,
                component,
                name,
                value,
            } => {
                self.vhost_mut(vhost)?;
                if mode.is_new() {
                    check_component(component)?;
                    check_parameter(name, value)?;
                }
                if mode == Mode::Decide {
                    self.check_parameter_limit(command)?;
                }
                let parameters = &mut self.vhost_mut(vhost)?.parameters;
                let key = (component.clone(), name.clone());
                let old = parameters.insert(key, value.clone());
                Change::of_set(old.as_ref(), value)
            }
            ParameterCommand::Clear {
                vhost,
                component,
                name,
            } => {
                let key = (component.clone(), name.clone());
                Change::of_removal(self.vhost_mut(vhost)?.parameters.remove(&key))
            }
            ParameterCommand::SetGlobal { name, value } => {
                if mode.is_new() {
                    check_parameter(name, value)?;
                }
                if mode == Mode::Decide {
                    self.check_parameter_limit(command)?;
                }
                let parameters = &mut self.global_parameters;
                let old = parameters.insert(name.clone(), value.clone());
                Change::of_set(old.as_ref(), value)
            }
            ParameterCommand::ClearGlobal { name } => {
                Change::of_removal(self.global_parameters.remove(name))
            }
        };
        Ok(Applied::new(change, true))
    }
}

fn check_component(component: &Name) -> Result<(), Refusal> {
    check_name("component", component)?;
    if RESERVED_COMPONENTS.contains(&component.as_bytes()) {
        return Err(Refusal::Precondition(format!(
            "parameters of component '{component}' are set by a command of their own"
        )));
    }
    Ok(())
}

fn check_parameter(name: &Name, value: &ParameterValue) -> Result<(), Refusal> {
    check_name("parameter", name)?;
    check_table("value of parameter", name, &value.0)
}

/// What is logged must be readable again, and fit in a record: a frame bounds what comes over
/// AMQP, and nothing what comes as JSON.
pub(super) fn check_table(what: &str, name: &Name, table: &FieldTable) -> Result<(), Refusal> {
    let size_bytes = table.as_bytes().len();
    if size_bytes > TABLE_SIZE_BYTES_MAX {
        return Err(Refusal::LimitReached(format!(
            "{what} '{name}' of {size_bytes} bytes is larger than {TABLE_SIZE_BYTES_MAX}"
        )));
    }
    TableRef::parse(table.as_bytes())
        .map(drop)
        .map_err(|error| Refusal::Precondition(format!("{what} '{name}': {error}")))
}

impl ParameterCommand {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Set {
                vhost,
                component,
                name,
                value,
            } => {
                out.put_u8(1);
                out.put_name(vhost);
                out.put_name(component);
                out.put_name(name);
                out.put_table(&value.0);
            }
            Self::Clear {
                vhost,
                component,
                name,
            } => {
                out.put_u8(2);
                out.put_name(vhost);
                out.put_name(component);
                out.put_name(name);
            }
            Self::SetGlobal { name, value } => {
                out.put_u8(3);
                out.put_name(name);
                out.put_table(&value.0);
            }
            Self::ClearGlobal { name } => {
                out.put_u8(4);
                out.put_name(name);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Set {
                vhost: reader.name()?,
                component: reader.name()?,
                name: reader.name()?,
                value: ParameterValue(reader.table()?),
            },
            2 => Self::Clear {
                vhost: reader.name()?,
                component: reader.name()?,
                name: reader.name()?,
            },
            3 => Self::SetGlobal {
                name: reader.name()?,
                value: ParameterValue(reader.table()?),
            },
            4 => Self::ClearGlobal {
                name: reader.name()?,
            },
            kind => return Err(DecodeError::UnknownKind { kind }),
        })
    }
}
