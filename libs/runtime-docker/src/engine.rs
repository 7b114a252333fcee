//! What the engine's errors mean, and the labels by which it knows our objects.

use std::collections::HashMap;

use bollard::errors::Error;
use reef_model::InstanceId;
use reef_runtime::RuntimeError;

/// On everything of an instance.
pub(crate) const INSTANCE: &str = "reef.instance";
/// On containers: the owner.
pub(crate) const TENANT: &str = "reef.tenant";
/// On containers: the generation of intent that they serve.
pub(crate) const GENERATION: &str = "reef.generation";
/// On everything: which Reef made it.
pub(crate) const DEPLOYMENT: &str = "reef.deployment";

/// Filters of the engine's lists.
pub(crate) type Filters = HashMap<String, Vec<String>>;

/// Returns the status of an error answer.
pub(crate) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Turns "is gone" into `None`.
pub(crate) fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Wraps the error of a step.
pub(crate) fn failed(context: &'static str) -> impl Fn(Error) -> RuntimeError {
    move |error| match &error {
        Error::DockerResponseServerError { message, .. } if is_full(message) => {
            RuntimeError::Capacity(format!("{context}: {message}"))
        }
        _ => RuntimeError::failed(context, error),
    }
}

fn is_full(message: &str) -> bool {
    ["no space left on device", "exchange full", "cannot allocate memory", "no available IPv4 addresses"]
        .iter()
        .any(|cause| message.contains(cause))
}

/// The labels of one Reef's objects.
#[derive(Debug, Clone)]
pub(crate) struct Ownership {
    pub(crate) deployment: String,
}

impl Ownership {
    /// Filters for all that is ours.
    pub(crate) fn all(&self) -> Filters {
        Filters::from([("label".into(), vec![format!("{DEPLOYMENT}={}", self.deployment)])])
    }

    /// Filters for what is ours of one instance.
    pub(crate) fn of(&self, id: InstanceId) -> Filters {
        let labels = vec![format!("{DEPLOYMENT}={}", self.deployment), format!("{INSTANCE}={id}")];
        Filters::from([("label".into(), labels)])
    }

    /// Labels for an object of an instance.
    pub(crate) fn labels(&self, id: InstanceId) -> HashMap<String, String> {
        let labels = [(DEPLOYMENT, self.deployment.clone()), (INSTANCE, id.to_string())];
        labels.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// Reads the instance from an object's labels.
pub(crate) fn instance(labels: &HashMap<String, String>) -> Option<InstanceId> {
    labels.get(INSTANCE)?.parse().ok()
}
