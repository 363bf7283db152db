//! New certificates without a restart: connections keep what they were opened with, the next ones
//! get the new files.

use std::{sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time,
};

use super::{Material, Options, TlsError};

/// Files as they are now, and a place where later ones appear.
pub(crate) struct Reloader {
    options: Options,
    /// What the configuration in force was made from.
    material: Material,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl Reloader {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// When they are missing, damaged or do not fit together.
    pub(crate) fn start(options: Options) -> Result<Self, TlsError> {
        let material = Material::read(&options)?;
        let config = material.server_config(&options)?;
        Ok(Self {
            options,
            material,
            config: watch::Sender::new(Arc::new(config)),
        })
    }

    /// Where listeners find the configuration in force.
    pub(crate) fn config(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.config.subscribe()
    }

    /// Looks at the files every `interval`, and at once on SIGHUP, until the process ends.
    pub(crate) async fn watch(mut self, interval: Duration, mut hangups: Hangups) {
        let mut ticker = time::interval(interval);
        ticker.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        // The same mistake is reported once, not every few seconds.
        let mut reported = None;
        loop {
            let asked = tokio::select! {
                biased;
                () = hangups.next() => true,
                _ = ticker.tick() => false,
            };
            match self.look() {
                Ok(true) => {
                    reported = None;
                    tracing::info!(event = "tls.reloaded", "certificates were read again");
                }
                Ok(false) => {}
                Err(error) => {
                    let message = error.to_string();
                    if asked || reported.as_ref() != Some(&message) {
                        tracing::error!(
                            event = "tls.refused",
                            error = %message,
                            "new certificates are refused: the old ones stay in force"
                        );
                    }
                    reported = Some(message);
                }
            }
        }
    }

    /// Takes changed files; true if there were any.
    fn look(&mut self) -> Result<bool, TlsError> {
        let material = Material::read(&self.options)?;
        if material == self.material {
            return Ok(false);
        }
        // Certificate and key are two files: between the two writes they do not fit.
        let config = material.server_config(&self.options)?;
        self.config.send_replace(Arc::new(config));
        self.material = material;
        Ok(true)
    }
}

/// SIGHUP, which must be listened for before it may come: its default ends the process.
pub(crate) struct Hangups(Signal);

impl Hangups {
    pub(crate) fn listen() -> std::io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Resolves at the next one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
