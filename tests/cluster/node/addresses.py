"""Names and addresses inside the node's own network namespace: no one outside can meet them."""

NODE = "node1"
NODE_ADDRESS = "10.77.0.1"
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
"""The API server's, in pods."""
API_PORT = 6443
KUBELET_PORT = 4250
"""Not the usual 10250: tests expose servers of the host, whose ports begin at 10240."""
