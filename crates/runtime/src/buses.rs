//! Which bus, by settings.

use std::{path::PathBuf, sync::Arc, time::Duration};

use larkauth_config::{Service, Settings};
use larkauth_messaging::{Bus, RabbitMq, RabbitMqOptions};
use larkauth_messaging_sqlite::{EmbeddedBus, EmbeddedOptions};
use larkauth_models::SecretString;
use larkauth_telemetry::Metrics;

use crate::{DataDir, Database};

/// How long a command waits for the broker, and how long one attempt of a service takes.
const CONNECT: Duration = Duration::from_secs(10);

/// Where a bus is.
#[derive(Clone, Debug)]
pub enum Broker {
    /// A RabbitMQ server.
    RabbitMq(SecretString),
    /// Inside an SQLite file.
    Embedded(PathBuf),
}

impl Broker {
    /// The one of `AMQP_URL`; without it, and without other services, the one in the database file. Standalone keeps its
    /// own in the data folder when its database is a server.
    ///
    /// # Errors
    /// When `AMQP_URL` is needed and not set.
    pub fn of(settings: &Settings) -> anyhow::Result<Self> {
        if let Some(url) = &settings.broker.url {
            return Ok(Self::RabbitMq(url.clone()));
        }
        match (settings.service, Database::of(settings)?) {
            (Service::Standalone | Service::Command, Database::Sqlite(path)) => Ok(Self::Embedded(path)),
            (Service::Standalone, Database::Postgres(_)) => {
                Ok(Self::Embedded(DataDir::new(&settings.data_dir).database()))
            }
            _ => Ok(Self::RabbitMq(settings.broker.required_url()?.clone())),
        }
    }

    /// Opens it. Only standalone makes and migrates its own file. A service starts also without RabbitMQ, and connects
    /// when it answers; a command waits for the connection.
    ///
    /// # Errors
    /// One line that says what is wrong and the cure.
    pub async fn open(&self, settings: &Settings, metrics: Metrics) -> anyhow::Result<Arc<dyn Bus>> {
        Ok(match self {
            Self::RabbitMq(url) => {
                let options = RabbitMqOptions {
                    trust: settings.broker.trust.clone(),
                    prefix: settings.broker.prefix.clone(),
                    connect_deadline: CONNECT,
                    ..RabbitMqOptions::new(url.clone(), settings.service.name(), metrics)
                };
                Arc::new(match settings.service {
                    // Most commands need the database only. One that needs a broker that is away fails by itself.
                    Service::Command => match RabbitMq::connect(options.clone()).await {
                        Ok(bus) => bus,
                        Err(_) => RabbitMq::connect_lazily(options)?,
                    },
                    _ => RabbitMq::connect_lazily(options)?,
                })
            }
            Self::Embedded(path) => {
                if settings.service == Service::Standalone {
                    EmbeddedBus::migrate(path).await?;
                }
                Arc::new(EmbeddedBus::open(EmbeddedOptions::new(path, metrics)).await?)
            }
        })
    }
}
