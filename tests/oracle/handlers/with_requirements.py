"""Has requirements that nobody installs, and does not need them."""


def handle(data, context):
    if data is None:
        return None
    manifest = context.manifest["model"]
    return [{"requirements": manifest["requirementsFile"], "handler": manifest["handler"]} for _ in data]
