"""The client side of Kubernetes: `predictor deploy`, `predictor status`, `predictor delete`.

Speaks to the API server through the `kubernetes` package and builds its objects from KServe's API
models. Knows nothing of the server, and nothing of it is loaded by the server. From the command line to
the cluster and back:

    command -> manifest  (what was asked for -> an InferenceService)
            -> cluster   (kubeconfig, apply, read; every refusal becomes a ClusterError)
            -> waiting   (until ready, hopeless or too late) -> diagnosis (why not)
            -> access    (how to call it)
"""
