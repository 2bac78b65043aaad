-- Something to order from the first minute on.
INSERT INTO inventory (item, on_hand, received) VALUES
	('Laptop', 1000, 1000),
	('Phone', 1000, 1000),
	('Headphones', 1000, 1000),
	('Monitor', 1000, 1000),
	('Keyboard', 1000, 1000);
