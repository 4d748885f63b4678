"""The code of a logged model: MLflow copies this file into the model and runs it when the model is loaded."""

from mlflow.models import set_model

from adapt.tracking.serving import AdapterModel

set_model(AdapterModel())
