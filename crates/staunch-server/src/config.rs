//! Configuration: one table of settings, read from flags, environment, file and defaults.
//!
//! Every setting has one name. `data_dir` is `data_dir` in `staunch.toml`, `STAUNCH_DATA_DIR` in
//! the environment and `--data-dir` on the command line; a flag wins over the environment, that
//! over the file, that over the default. The table in [`settings`] is the only place that knows
//! a setting's name, type, default and documentation: the struct, the command-line help, the
//! commented default file and the list that misspelt keys are compared with all come from it.
//!
//! Serde was rejected for the file: it stops at the first error and forgets where a value stood.
//! [`load()`] collects every error of every source, each with its line and column.

pub mod access;
mod error;
mod file;
mod load;
mod nearest;
mod render;
pub mod settings;
mod text;
pub mod values;

pub use error::{ConfigError, ConfigErrors, Origin};
pub use load::{Loaded, Sources, load, resolve};
pub use render::{Origins, default_file, shown};
pub use settings::{Config, SETTINGS, Setting};
pub use values::{
    Address, ByteSize, DiskFreeLimit, Listen, LogFormat, MemoryLimit, NodeName, Secret, Seeds,
};

#[cfg(test)]
mod tests;
