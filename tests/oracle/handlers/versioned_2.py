"""Another version of the model, with a handler of its own."""


def handle(data, context):
    return None if data is None else ["two " + context.manifest["model"]["modelVersion"]] * len(data)
