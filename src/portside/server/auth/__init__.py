"""Who asks, and may they: certificates, tokens, impersonation, RBAC, the node authorizer, and the reviews about them.

The engine calls, in this order: ``Authenticator.authenticate`` -> ``gate.pass_gate`` (impersonation, authorization; raises
the Forbidden texts) -> the handler. ``handlers.HANDLERS`` maps (group, resource, subresource) to the handlers of token
requests and reviews, each ``async def handle(attributes, body, server) -> Json`` answering 201.
"""
