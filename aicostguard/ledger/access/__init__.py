"""Access: organisations, projects, keys, people, what each may do, and the log of what they did.

`door.authorise(request, scope)` is the one way in for every route. A module here holds one idea; `routes` is the face.
"""
