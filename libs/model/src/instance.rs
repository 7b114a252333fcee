//! The instance state machine's words: intent (`desired`, `sleep_target`) and fact (`status`, `power`).

use crate::text::text_enum;

text_enum! {
    /// What the owner wants; only API calls change it.
    Desired {
        /// Up, or asleep and ready to wake.
        Running = "running",
        /// Down until the owner starts it; never wakes by itself.
        Stopped = "stopped",
        /// Gone once the restore window has passed.
        Deleted = "deleted",
    }
}

text_enum! {
    /// How deep an idle instance sleeps.
    SleepTarget {
        /// Not at all.
        Awake = "awake",
        /// Frozen in memory.
        Paused = "paused",
        /// Stopped, volume kept.
        Asleep = "asleep",
    }
}

text_enum! {
    /// What is; only the reconciler changes it.
    Status {
        /// Runtime objects are being made.
        Provisioning = "provisioning",
        /// Runs, but cannot take a chat yet.
        Starting = "starting",
        /// Takes chats (a paused instance too: waking takes milliseconds).
        Ready = "ready",
        /// Is going down.
        Stopping = "stopping",
        /// Is down; data kept.
        Stopped = "stopped",
        /// Gets another image.
        Updating = "updating",
        /// Failed; `status_reason` says why and what to do.
        Error = "error",
        /// Is being removed.
        Deleting = "deleting",
        /// Removed, or kept stopped for the restore window.
        Deleted = "deleted",
    }
}

text_enum! {
    /// What the instance's processes do.
    Power {
        /// Processes run.
        Running = "running",
        /// Processes are frozen.
        Paused = "paused",
        /// No process.
        Stopped = "stopped",
    }
}

text_enum! {
    /// How the tenant's processes are kept apart from the rest of the machine, strongest last.
    Isolation {
        /// Nothing but a process.
        None = "none",
        /// Landlock rules on files.
        Landlock = "landlock",
        /// Bubblewrap: own user, pid, mount, ipc and network namespaces.
        Bubblewrap = "bubblewrap",
        /// A hardened container.
        Container = "container",
        /// A pod under the cluster's policies.
        Pod = "pod",
    }
}

text_enum! {
    /// Where an instance runs.
    RuntimeKind {
        /// A process tree on this machine.
        Process = "process",
        /// A Docker container.
        Docker = "docker",
        /// A Kubernetes pod.
        Kubernetes = "kubernetes",
        /// The owner's own machine.
        Host = "host",
    }
}

text_enum! {
    /// A long verb.
    OperationKind {
        /// Make and start a new instance.
        Create = "create",
        /// Bring it up.
        Start = "start",
        /// Bring it down.
        Stop = "stop",
        /// Down and up.
        Restart = "restart",
        /// Soft delete.
        Delete = "delete",
        /// Undo of a soft delete.
        Restore = "restore",
    }
}

text_enum! {
    /// How a long verb stands.
    OperationStatus {
        /// Under way.
        Running = "running",
        /// Done.
        Succeeded = "succeeded",
        /// Ended without its goal; `error` says why.
        Failed = "failed",
    }
}
