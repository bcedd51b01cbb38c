"""``--report-to``: numbers of a run go to TensorBoard, Weights & Biases or MLflow as they come."""
