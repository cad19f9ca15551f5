"""What a framework declares in code, as labels: routes and tasks as features, agents by their names. One file each."""
