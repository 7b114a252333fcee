//! The model gateway as the verbs know it.

use std::io;

use async_trait::async_trait;
use reef_control::ModelAccess;
use reef_door::RunDir;
use reef_model::InstanceId;
use reef_model_gateway::ModelGateway;

/// Makes and releases the instances' model sockets.
pub(crate) struct ModelSockets(pub(crate) ModelGateway);

#[async_trait]
impl ModelAccess for ModelSockets {
    async fn serve(&self, id: InstanceId, run_dir: &RunDir) -> io::Result<()> {
        self.0.serve(id, run_dir)
    }

    fn release(&self, id: InstanceId) {
        self.0.release(id);
    }
}
