"""What a cloud or data centre says of the machine. A provider is a plugin.

An organisation adds its own by an entry point in the group `securecloud_agent.providers` whose
object is a class with the constructor and methods of `Provider`.
"""
